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
	index     int    // of the struct's field
	fallback  string // the default, as it would be written
	usage     string
	limits    *limits
	oneof     []string
	file      bool     // it names a file
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

// schema is the section of the whole file.
var schema = sync.OnceValue(func() *section {
	return sectionOf(reflect.TypeFor[document](), "")
})

func sectionOf(t reflect.Type, prefix string) *section {
	s := &section{}
	for i := range t.NumField() {
		sf := t.Field(i)
		f := field{
			key:      sf.Tag.Get("key"),
			index:    i,
			fallback: sf.Tag.Get("default"),
			usage:    sf.Tag.Get("usage"),
			file:     sf.Tag.Get("path") != "",
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
	return s
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
			s, err = parseSize(bound.text)
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

// field is the key of that name, or nil.
func (s *section) field(key string) *field {
	for i := range s.fields { // at most fifteen: faster than a map
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
			f.section.scalars(v.Field(f.index), visit)
		default:
			visit(f, v.Field(f.index))
		}
	}
}

// env is the variable that overrides the key.
func (f *field) env() string {
	return "TOPICAST_" + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

// flag is the name of the flag that overrides the key.
func (f *field) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(f.path)
}
