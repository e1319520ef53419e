package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

func parseYAML(data []byte, keys Keys) (Node, *Error) {
	root, ok, err := parsePlainYAML(data)
	if ok || err != nil {
		return root, err
	}
	return parseAnyYAML(data, keys)
}

func parseAnyYAML(data []byte, keys Keys) (Node, *Error) {
	if err := countedBefore(data); err != nil {
		return Node{}, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return Node{}, nil // nothing but comments
		}
		return Node{}, yamlSyntaxError(data, keys, err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return Node{}, &Error{
			At:   yamlPlace(&second),
			Err:  errors.New("a second document begins here, and only the first would be read"),
			Hint: "remove the line ---, or the rest of the file",
		}
	} else if !errors.Is(err, io.EOF) {
		return Node{}, yamlSyntaxError(data, keys, err)
	}
	c := yamlConverter{anchors: make(map[*yaml.Node]*Node), keys: keys, named: bytes.IndexByte(data, '&') >= 0}
	if bytes.Contains(data, []byte("! ")) || bytes.Contains(data, []byte("!\n")) || bytes.Contains(data, []byte("!\r")) || bytes.Contains(data, []byte("!\t")) || bytes.HasSuffix(data, []byte("!")) {
		c.rows = bytes.Split(data, []byte("\n"))
	}
	root := c.convert(document.Content[0])
	return root, c.err
}

// yamlConverter turns the library's nodes into ours.
type yamlConverter struct {
	anchors map[*yaml.Node]*Node // what aliases mean; nil while it is being converted
	keys    Keys
	rows    [][]byte // of the file, where it may have a tag that is only a !
	secret  bool     // what is converted must not be shown
	named   bool     // there may be anchors, by which nodes are needed again
	bounds           // and the first fault
}

// done lets go of a node that was converted: theirs and ours need not fit into memory together.
func (c *yamlConverter) done(y **yaml.Node) {
	if !c.named {
		*y = nil
	}
}

// shown is a word of the file for an error.
func (c *yamlConverter) shown(sign, word string) string {
	if c.secret {
		return sign + "…"
	}
	return sign + word
}

func (c *yamlConverter) convert(y *yaml.Node) Node {
	n := Node{At: yamlPlace(y)}
	if !c.countValue(n.At) {
		return n
	}
	switch y.Kind {
	case yaml.AliasNode:
		return c.alias(y)
	case yaml.SequenceNode:
		n.Kind = List
		if !c.countItem(len(y.Content)-1, n.At) {
			return n
		}
		n.Entries = make([]Entry, len(y.Content))
		for i, item := range y.Content {
			n.Entries[i].Value = c.convert(item)
			c.done(&y.Content[i])
		}
	case yaml.MappingNode:
		n.Kind = Table
		c.mapping(&n, y)
	default:
		if !c.countText(len(y.Value), n.At) {
			return n
		}
		n.Kind, n.Text = yamlKind(y.Tag), y.Value // the library has filled in the tag
		if c.bareTag(y) || c.secret && y.Style&yaml.TaggedStyle != 0 && c.err == nil && strings.HasPrefix(y.Tag, "!!") {
			c.fail(n.At, fmt.Errorf("! is %w", ErrTag))
			c.err.Hint = tagHint
			break
		}
		if c.err == nil && strings.HasPrefix(y.Tag, "!") && !strings.HasPrefix(y.Tag, "!!") {
			c.fail(n.At, fmt.Errorf("%s is %w", c.shown("!", y.Tag[1:]), ErrTag))
			c.err.Hint = tagHint
		}
		if c.secret && y.Anchor != "" && y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
			c.fail(n.At, errors.New("& begins an anchor, which is no part of the value"))
			if c.err.Hint == "" {
				c.err.Hint = "put a value that begins with & in quotes"
			}
		}
	}
	return n
}

const tagHint = "write the value itself, in quotes if it begins with !"

// bareTag reports whether a value begins with a ! that stands alone. YAML has that for a tag
// without a name, and the library says nothing of it: what follows would be the value.
func (c *yamlConverter) bareTag(y *yaml.Node) bool {
	if c.err != nil || y.Line > len(c.rows) {
		return false
	}
	row := c.rows[y.Line-1]
	for range y.Column - 1 { // in characters
		_, size := utf8.DecodeRune(row)
		row = row[size:]
	}
	return len(row) > 0 && row[0] == '!' && (len(row) == 1 || strings.IndexByte(" \t\r", row[1]) >= 0)
}

// alias returns the value that *name stands for. It is converted once however often
// it is named, so that ten levels of ten aliases each do not become 10^10 nodes.
func (c *yamlConverter) alias(y *yaml.Node) Node {
	known, begun := c.anchors[y.Alias]
	if !begun {
		c.anchors[y.Alias] = nil
		n := c.convert(y.Alias)
		known = &n
		c.anchors[y.Alias] = known
	}
	if known == nil {
		c.fail(yamlPlace(y), fmt.Errorf("%s stands for a value that it is itself a part of", c.shown("*", y.Value)))
		return Node{}
	}
	return *known
}

func (c *yamlConverter) mapping(n *Node, y *yaml.Node) {
	n.Entries = make([]Entry, 0, len(y.Content)/2)
	var merged []Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			m := c.convert(value)
			m.At = yamlPlace(key)
			merged = append(merged, m)
		case key.Kind != yaml.ScalarNode:
			c.fail(yamlPlace(key), errors.New("a key is not a word"))
		default:
			was := c.secret
			if !c.countKey(len(n.Entries), yamlPlace(key)) || !c.countText(len(key.Value), yamlPlace(key)) {
				return
			}
			c.secret = was || c.keys.Secret != nil && c.keys.Secret(key.Value)
			n.Entries = append(n.Entries, Entry{key.Value, yamlPlace(key), c.convert(value)})
			c.secret = was
			c.done(&y.Content[i])
			c.done(&y.Content[i+1])
		}
	}
	for _, m := range merged {
		c.merge(n, m, m.At)
	}
}

// merge adds the entries of "<<: *name" that the table has no key for: what a
// table says itself goes before what is merged into it, and of several merged
// tables the first (yaml.org/type/merge.html).
func (c *yamlConverter) merge(n *Node, m Node, at Place) {
	switch m.Kind {
	case Table:
		for _, e := range m.Entries {
			if n.Entry(e.Key) == nil {
				if !c.countKey(len(n.Entries), at) || !c.countValue(at) {
					return
				}
				n.Entries = append(n.Entries, e)
			}
		}
	case List:
		for _, item := range m.Entries {
			if item.Value.Kind != Table {
				c.fail(at, errors.New("<< takes a section, or a list of sections"))
				return
			}
			c.merge(n, item.Value, at)
		}
	default:
		c.fail(at, errors.New("<< takes a section, or a list of sections"))
	}
}

func (c *yamlConverter) fail(at Place, err error) {
	c.refuse(&Error{At: at, Err: err})
}

func yamlPlace(y *yaml.Node) Place { return Place{int32(y.Line), int32(y.Column)} }

func yamlKind(tag string) Kind {
	switch tag {
	case "!!str":
		return Text
	case "!!int":
		return Integer
	case "!!float":
		return Float
	case "!!bool":
		return Boolean
	case "!!null":
		return Null
	default:
		return Other
	}
}
