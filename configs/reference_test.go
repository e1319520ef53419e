package configs

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// ruleLists has the lists of rules, with a rule of each.
var ruleLists = map[string]any{"send": new(mapping.SendRule), "receive": new(mapping.ReceiveRule)}

// samples has the keys of rules whose value in reference.yaml is an example, since
// they have no default, an empty one, or one that other keys make.
var samples = map[string][]string{
	"send":    {"name", "filter", "group", "source", "on_down", "max_age"},
	"receive": {"name", "group", "interface", "source", "topic", "empty"},
}

// eachRuleKey visits the keys of the rules, with their place in a rule.
func eachRuleKey(visit func(list string, f *field, v reflect.Value)) {
	for list, rule := range ruleLists {
		s := schema().field(list).section
		for i := range s.fields {
			visit(list, &s.fields[i], s.fields[i].of(reflect.ValueOf(rule).Elem()))
		}
	}
}

func referenceTree(t *testing.T) syntax.Node {
	t.Helper()
	root, err := parse("reference.yaml", Reference)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestReferenceHasEveryKeyAndNoOther(t *testing.T) {
	var keys, reference []string
	var walkSchema func(s *section, prefix string)
	walkSchema = func(s *section, prefix string) {
		for _, f := range s.fields {
			keys = append(keys, prefix+f.key)
			if f.section != nil {
				walkSchema(f.section, prefix+f.key+".")
			}
		}
	}
	var walkTree func(n *syntax.Node, prefix string)
	walkTree = func(n *syntax.Node, prefix string) {
		for i := range n.Entries {
			e := &n.Entries[i]
			reference = append(reference, prefix+e.Key)
			value := &e.Value
			if value.Kind == syntax.List {
				value = &value.Entries[0].Value // a rule, or an address, which has no keys
			}
			walkTree(value, prefix+e.Key+".")
		}
	}
	root := referenceTree(t)
	walkSchema(schema(), "")
	walkTree(&root, "")
	if diff := cmp.Diff(keys, reference); diff != "" {
		t.Errorf("(-struct +reference.yaml)\n%s", diff)
	}
}

func TestReferenceGivesTheDefaults(t *testing.T) {
	root := referenceTree(t)
	compare := func(f *field, v reflect.Value, n *syntax.Node) {
		byDefault, byReference := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
		if f.fallback != "" {
			f.mustSet(byDefault)
		}
		if err := f.set(byReference, n); err != nil {
			t.Errorf("%s: %v", f.path, err)
		}
		if got, want := fmt.Sprint(byReference), fmt.Sprint(byDefault); got != want {
			t.Errorf("%s is %s in reference.yaml; the default is %s", f.path, got, want)
		}
	}
	schema().scalars(reflect.ValueOf(&document{}).Elem(), func(f *field, v reflect.Value) {
		n := &root
		for key := range strings.SplitSeq(f.path, ".") {
			n = &n.Entry(key).Value
		}
		compare(f, v, n)
	})
	eachRuleKey(func(list string, f *field, v reflect.Value) {
		if !slices.Contains(samples[list], f.key) {
			compare(f, v, &root.Entry(list).Value.Entries[0].Value.Entry(f.key).Value)
		}
	})
}

// The comment above a key says what the help of its flag says, its bounds, and
// every value it may have.
func TestReferenceSaysWhatAKeyIs(t *testing.T) {
	rows := strings.Split(string(Reference), "\n")
	comment := func(at syntax.Place) string {
		var words []string
		for i := int(at.Line) - 2; i >= 0; i-- {
			row, is := strings.CutPrefix(strings.TrimSpace(rows[i]), "#")
			if !is {
				break
			}
			words = append([]string{strings.TrimSpace(row)}, words...)
		}
		return strings.Join(words, " ")
	}
	root := referenceTree(t)
	check := func(f *field, e *syntax.Entry) {
		said := lowerFirst(comment(e.At))
		if usage := lowerFirst(f.usage); !strings.HasPrefix(said, usage) {
			t.Errorf("%s: the comment does not begin with the usage:\n%s\n%s", f.path, said, usage)
		}
		wanted := f.oneof
		if f.limits != nil {
			wanted = []string{f.limits.text}
		}
		for _, word := range wanted {
			if !strings.Contains(said, word) {
				t.Errorf("%s: the comment does not say %s", f.path, word)
			}
		}
	}
	schema().scalars(reflect.ValueOf(&document{}).Elem(), func(f *field, _ reflect.Value) {
		n := &root
		for key := range strings.SplitSeq(filepath.Dir(strings.ReplaceAll(f.path, ".", "/")), "/") {
			n = &n.Entry(key).Value
		}
		check(f, n.Entry(f.key))
	})
	eachRuleKey(func(list string, f *field, _ reflect.Value) {
		check(f, root.Entry(list).Value.Entries[0].Value.Entry(f.key))
	})
}

func lowerFirst(s string) string {
	for i, r := range s {
		return string(unicode.ToLower(r)) + s[i+len(string(r)):]
	}
	return s
}

func TestReferenceLoads(t *testing.T) {
	if _, err := load("reference.yaml", Reference, nil); err != nil {
		t.Error(err)
	}
}

// What a section may be limited to, its values can be set to.
func TestEveryAllowedWordIsAccepted(t *testing.T) {
	try := func(f *field, v reflect.Value) {
		for _, word := range f.oneof {
			if err := f.set(v, &syntax.Node{Kind: syntax.Text, Text: word}); err != nil {
				t.Errorf("%s: %v", f.path, err)
			}
		}
	}
	schema().scalars(reflect.ValueOf(&document{}).Elem(), try)
	eachRuleKey(func(_ string, f *field, v reflect.Value) { try(f, v) })
}
