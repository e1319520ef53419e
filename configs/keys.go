package configs

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"topicast/mapping"
)

// A Key is a key of the rules of a list, for those who show a rule: what it has by the
// key, and what that means, as the tags of the rule's struct say.
type Key struct {
	Name string
	f    *field
}

// SendKeys are the keys of a send rule, in the order of reference.yaml.
func SendKeys() []Key { return keysOf("send") }

// ReceiveKeys are those of a receive rule.
func ReceiveKeys() []Key { return keysOf("receive") }

func keysOf(list string) (keys []Key) {
	s := schema().field(list).section
	for i := range s.fields {
		keys = append(keys, Key{s.fields[i].key, &s.fields[i]})
	}
	return keys
}

// Values are what a rule, a *mapping.SendRule or *mapping.ReceiveRule, has by the key: one
// value as the file would have it, or those of a list.
func (k Key) Values(rule any) []string {
	v := k.f.of(reflect.ValueOf(rule).Elem())
	if v.Kind() != reflect.Slice {
		return []string{k.text(v)}
	}
	var texts []string
	for i := range v.Len() {
		texts = append(texts, k.text(v.Index(i)))
	}
	return texts
}

func (k Key) text(v reflect.Value) string {
	switch is := v.Interface().(type) {
	case bool:
		switch {
		case k.f.whenTrue == "":
		case is:
			return k.f.whenTrue
		default:
			return k.f.oneof[1-slices.Index(k.f.oneof, k.f.whenTrue)] // the other of the two
		}
	case time.Duration:
		return DurationText(is)
	case netip.Prefix:
		return mapping.PrefixText(is)
	}
	return fmt.Sprint(v.Interface())
}

// Meaning says what a value of the key means, or "" where that needs no words.
func (k Key) Meaning(value string) string {
	for _, m := range k.f.means {
		if m.value == value || m.value == "*" {
			return m.text
		}
	}
	return ""
}

// Default is the value of the key where the file has none, as the file would have it; ""
// where there is none, or it depends on others.
func (k Key) Default() string { return k.f.fallback }

// Settings are what a rule, a *mapping.SendRule or *mapping.ReceiveRule, says beside which
// messages or datagrams are its own, and where they go: "ttl 8". Left out are the keys whose
// value is their default.
func Settings(rule any) (texts []string) {
	keys, own := ReceiveKeys(), []string{"name", "group", "interface", "source", "topic"}
	if _, send := rule.(*mapping.SendRule); send {
		keys, own = SendKeys(), []string{"name", "filter", "group", "host", "interface", "source"}
	}
	for _, k := range keys {
		if slices.Contains(own, k.Name) {
			continue
		}
		if value := strings.Join(k.Values(rule), " "); value != k.Default() {
			texts = append(texts, k.Name+" "+value)
		}
	}
	return texts
}

// A Said is what a rule says by one key.
type Said struct {
	Key     string
	Value   string // as the file would have it; of a long list the first, and how many more
	Means   string // in words; "": the value says it
	Default bool   // it is what the key has where the file gives nothing
}

// Effective is what a rule, a *mapping.SendRule or *mapping.ReceiveRule, says by each key that says
// something, in the order of reference.yaml.
func Effective(rule any) (all []Said) {
	keys := ReceiveKeys()
	if _, send := rule.(*mapping.SendRule); send {
		keys = SendKeys()
	}
	for _, k := range keys {
		values := k.Values(rule)
		value := mapping.Listed(values, func(v string) string { return v })
		s := Said{Key: k.Name, Value: value, Means: k.Meaning(value), Default: strings.Join(values, " ") == k.Default()}
		if s.Value == "" && k.Name == "rate" {
			s.Means = "no limit" // what it means is of a rate
		}
		if s.Value != "" || s.Means != "" {
			all = append(all, s)
		}
	}
	return all
}

// Gives reports whether a rule of a list has the key in the file. It must be called before
// Release.
func (c *Config) Gives(list string, rule int, key string) bool {
	rules := c.root.Entry(list)
	return rules != nil && rule < len(rules.Value.Entries) && rules.Value.Entries[rule].Value.Entry(key) != nil
}
