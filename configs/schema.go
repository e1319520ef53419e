package configs

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// section is what the tags of a struct say about its keys.
type section struct {
	fields []field
}

// field is one key.
type field struct {
	key, path string // ca_file, broker.tls.ca_file; within a rule both are the key
	place     int    // in the section
	index     int    // of the struct's field
	within    int    // of the field in the struct there whose keys are the section's; -1: it is the field itself
	fallback  string // the default, as it would be written
	usage     string
	limits    *limits
	oneof     []string
	whenTrue  string // of oneof, where the variable is a bool
	parse     string // how to read it, where its type does not tell
	means     []meaning
	file      bool     // it names a file
	folder    bool     // of files, a folder
	noFlag    bool     // it has no flag
	secret    bool     // no error shows its value
	section   *section // of a section, or of the entries of a list
	list      bool
}

// limits are the least and the greatest number allowed, and the two as text.
type limits struct {
	low, high int64
	text      string
}

// A meaning is what a value of a key means; value is * for every other.
type meaning struct{ value, text string }

// schema is the section of the whole file.
var schema = sync.OnceValue(func() *section {
	return sectionOf(reflect.TypeFor[document](), "")
})

func sectionOf(t reflect.Type, prefix string) *section {
	s := &section{}
	for i := range t.NumField() {
		sf := t.Field(i)
		switch {
		case sf.Tag.Get("key") != "":
			s.add(sf, i, -1, prefix)
		case sf.Type.Kind() == reflect.Struct:
			for j := range sf.Type.NumField() {
				if inner := sf.Type.Field(j); inner.Tag.Get("key") != "" {
					s.add(inner, i, j, prefix)
				}
			}
		}
	}
	return s
}

// add adds the key of a struct's field.
func (s *section) add(sf reflect.StructField, index, within int, prefix string) {
	f := field{
		key:      sf.Tag.Get("key"),
		place:    len(s.fields),
		index:    index,
		within:   within,
		whenTrue: sf.Tag.Get("true"),
		parse:    sf.Tag.Get("parse"),
		fallback: sf.Tag.Get("default"),
		usage:    sf.Tag.Get("usage"),
		file:     sf.Tag.Get("path") != "",
		folder:   sf.Tag.Get("path") == "folder",
		noFlag:   sf.Tag.Get("flag") == "none",
		secret:   sf.Type == reflect.TypeFor[Secret](),
	}
	f.path = prefix + f.key
	if names := sf.Tag.Get("oneof"); names != "" {
		f.oneof = strings.Split(names, "|")
	}
	if span := sf.Tag.Get("range"); span != "" {
		f.limits = limitsOf(sf.Type, span)
	}
	if texts := sf.Tag.Get("means"); texts != "" {
		for one := range strings.SplitSeq(texts, "|") {
			value, text, _ := strings.Cut(one, ": ")
			f.means = append(f.means, meaning{value, text})
		}
	}
	switch {
	case f.usage != "": // a scalar, or a list of them
	case sf.Type.Kind() == reflect.Slice:
		f.list = true
		f.section = sectionOf(sf.Type.Elem(), "")
	default:
		f.section = sectionOf(sf.Type, f.path+".")
	}
	s.fields = append(s.fields, f)
}

// of is the variable of the key in v, a struct of the section.
func (f *field) of(v reflect.Value) reflect.Value {
	v = v.Field(f.index)
	if f.within >= 0 {
		v = v.Field(f.within)
	}
	return v
}

func limitsOf(t reflect.Type, span string) *limits {
	low, high, _ := strings.Cut(span, "..")
	l := &limits{text: low + " to " + high}
	for _, bound := range []struct {
		text string
		to   *int64
	}{{low, &l.low}, {high, &l.high}} {
		var err error
		switch t {
		case reflect.TypeFor[time.Duration]():
			var d time.Duration
			d, err = parseDuration(bound.text)
			*bound.to = int64(d)
		case reflect.TypeFor[Size]():
			var s Size
			s, err = ParseSize(bound.text)
			*bound.to = int64(s)
		default:
			*bound.to, err = parseInteger(bound.text)
		}
		if err != nil {
			panic(fmt.Sprintf("range %q of a %v: %v", span, t, err)) // a slip in a struct tag
		}
	}
	return l
}

func (l *limits) check(n int64, written string) error {
	if l != nil && (n < l.low || n > l.high) {
		return fmt.Errorf("%s is out of range: %s", written, l.text)
	}
	return nil
}

// field returns the key of that name, or nil.
func (s *section) field(key string) *field {
	for i := range s.fields { // some thirty at most: faster than a map
		if s.fields[i].key == key {
			return &s.fields[i]
		}
	}
	return nil
}

// scalars visits every key outside the rules, with its place in v.
func (s *section) scalars(v reflect.Value, visit func(f *field, v reflect.Value)) {
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.list:
		case f.section != nil:
			f.section.scalars(f.of(v), visit)
		default:
			visit(f, f.of(v))
		}
	}
}

// env returns the variable that overrides the key.
func (f *field) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// flag returns the name of the flag that overrides the key.
func (f *field) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(f.path)
}
