package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// syntaxError is a text that is not of its format.
type syntaxError struct {
	at   place
	err  error
	hint string
}

func (e *syntaxError) Error() string { return e.err.Error() }

func parseYAML(data []byte) (node, *syntaxError) {
	if root, ok := parsePlainYAML(data); ok {
		return root, nil
	}
	return parseAnyYAML(data)
}

func parseAnyYAML(data []byte) (node, *syntaxError) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return node{}, nil // nothing but comments
		}
		return node{}, yamlSyntaxError(data, err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return node{}, &syntaxError{
			at:   yamlPlace(&second),
			err:  errors.New("a second document begins here, and only the first would be read"),
			hint: "remove the line ---, or the rest of the file",
		}
	} else if !errors.Is(err, io.EOF) {
		return node{}, yamlSyntaxError(data, err)
	}
	c := yamlConverter{anchors: make(map[*yaml.Node]*node)}
	root := c.convert(document.Content[0])
	return root, c.err
}

// yamlConverter turns the library's nodes into ours.
type yamlConverter struct {
	anchors map[*yaml.Node]*node // what aliases mean; nil while it is being converted
	err     *syntaxError         // the first fault
}

func (c *yamlConverter) convert(y *yaml.Node) node {
	n := node{at: yamlPlace(y)}
	switch y.Kind {
	case yaml.AliasNode:
		return c.alias(y)
	case yaml.SequenceNode:
		n.kind = list
		n.entries = make([]entry, len(y.Content))
		for i, item := range y.Content {
			n.entries[i].value = c.convert(item)
		}
	case yaml.MappingNode:
		n.kind = table
		c.mapping(&n, y)
	default:
		n.kind, n.text = yamlKind(y.Tag), y.Value // the library has filled in the tag
	}
	return n
}

// alias is the value that *name stands for. It is converted once however often
// it is named, so that ten levels of ten aliases each do not become 10^10 nodes.
func (c *yamlConverter) alias(y *yaml.Node) node {
	known, begun := c.anchors[y.Alias]
	if !begun {
		c.anchors[y.Alias] = nil
		n := c.convert(y.Alias)
		known = &n
		c.anchors[y.Alias] = known
	}
	if known == nil {
		c.fail(yamlPlace(y), fmt.Errorf("*%s stands for a value that it is itself a part of", y.Value))
		return node{}
	}
	return *known
}

func (c *yamlConverter) mapping(n *node, y *yaml.Node) {
	n.entries = make([]entry, 0, len(y.Content)/2)
	var merged []node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			m := c.convert(value)
			m.at = yamlPlace(key)
			merged = append(merged, m)
		case key.Kind != yaml.ScalarNode:
			c.fail(yamlPlace(key), errors.New("a key is not a word"))
		default:
			n.entries = append(n.entries, entry{key.Value, yamlPlace(key), c.convert(value)})
		}
	}
	for _, m := range merged {
		c.merge(n, m, m.at)
	}
}

// merge adds the entries of "<<: *name" that the table has no key for: what a
// table says itself goes before what is merged into it, and of several merged
// tables the first (yaml.org/type/merge.html).
func (c *yamlConverter) merge(n *node, m node, at place) {
	switch m.kind {
	case table:
		for _, e := range m.entries {
			if n.entry(e.key) == nil {
				n.entries = append(n.entries, e)
			}
		}
	case list:
		for _, item := range m.entries {
			if item.value.kind != table {
				c.fail(at, errors.New("<< takes a section, or a list of sections"))
				return
			}
			c.merge(n, item.value, at)
		}
	default:
		c.fail(at, errors.New("<< takes a section, or a list of sections"))
	}
}

func (c *yamlConverter) fail(at place, err error) {
	if c.err == nil {
		c.err = &syntaxError{at: at, err: err}
	}
}

func yamlPlace(y *yaml.Node) place { return place{int32(y.Line), int32(y.Column)} }

func yamlKind(tag string) kind {
	switch tag {
	case "!!str":
		return text
	case "!!int":
		return integer
	case "!!float":
		return float
	case "!!bool":
		return boolean
	case "!!null":
		return null
	default:
		return other
	}
}
