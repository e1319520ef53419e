package configs

import (
	"reflect"
	"slices"
	"testing"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// A field that has no key is set by nobody, and no file can.
func TestEveryFieldOfARuleHasAKey(t *testing.T) {
	follows := []string{"Binding", "IPv6", "Host", "AgeGiven", "Common", "Answers"} // of others
	for _, of := range []reflect.Type{reflect.TypeFor[mapping.SendRule](), reflect.TypeFor[mapping.Binding](), reflect.TypeFor[mapping.ReceiveRule]()} {
		for i := range of.NumField() {
			f := of.Field(i)
			if f.Tag.Get("key") == "" && !slices.Contains(follows, f.Name) {
				t.Errorf("%v.%s has no key", of, f.Name)
			}
		}
	}
}

// What explain says of a value must be about one that there is.
func TestMeaningsAreOfValuesThatAKeyTakes(t *testing.T) {
	eachRuleKey(func(list string, f *field, v reflect.Value) {
		for _, m := range f.means {
			if m.text == "" {
				t.Errorf("%s.%s: %s means nothing", list, f.key, m.value)
			}
			if m.value == "*" {
				continue
			}
			if err := f.set(v, &syntax.Node{Kind: syntax.Untyped, Text: m.value}); err != nil {
				t.Errorf("%s.%s: %v", list, f.key, err)
			}
			if got := (Key{f.key, f}).text(v); got != m.value {
				t.Errorf("%s.%s: %s is shown as %s, which means something else", list, f.key, m.value, got)
			}
		}
		for _, word := range f.oneof {
			if f.means != nil && (Key{f.key, f}).Meaning(word) == "" {
				t.Errorf("%s.%s: nothing says what %s means", list, f.key, word)
			}
		}
	})
}

// A rule is shown in the words of the file.
func TestTheValuesOfARuleAreThoseOfItsFile(t *testing.T) {
	root := referenceTree(t)
	c, err := load("reference.yaml", Reference, nil)
	if err != nil {
		t.Fatal(err)
	}
	for of, rule := range map[string]any{"send": &c.Table.Send()[0], "receive": &c.Table.Receive()[0]} {
		for _, k := range keysOf(of) {
			e := root.Entry(of).Value.Entries[0].Value.Entry(k.Name)
			if e == nil { // as another test says
				continue
			}
			want := &e.Value
			var written []string
			switch {
			case want.Kind == syntax.Null, want.Kind == syntax.Text && want.Text == "" && k.f.of(reflect.ValueOf(rule).Elem()).Kind() == reflect.Slice:
			case want.Kind == syntax.List:
				for i := range want.Entries {
					written = append(written, want.Entries[i].Value.Text)
				}
			default:
				written = []string{want.Text}
			}
			if got := k.Values(rule); !slices.Equal(got, written) {
				t.Errorf("%s.%s is %q, written %q", of, k.Name, got, written)
			}
			if !c.Gives(of, 0, k.Name) {
				t.Errorf("%s.%s is given", of, k.Name)
			}
		}
		if c.Gives(of, 0, "none") || c.Gives(of, 1, "name") || c.Gives("nowhere", 0, "name") {
			t.Errorf("%s: a key that is not given", of)
		}
	}
}
