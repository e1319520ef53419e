package configs

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"topicast/mapping"
)

// set decodes a value into the variable of its key. It is ours because
// mapstructure, which viper decodes with, takes 5 for five nanoseconds, 0010
// for the text "8" and 1234 for a topic, forgets where a value was written, and
// knows no defaults within a list. It is also called for each key of each rule,
// of which there may be 100,000.
func (f *field) set(v reflect.Value, n *node) error {
	switch to := v.Addr().Interface().(type) {
	case *URLs:
		return f.setURLs(to, n)
	case *groups:
		return setList(f, to, n, "a group such as 239.1.2.3:5000", "a group such as 239.1.2.3:5000, or a list of them", mapping.ParseGroupRange)
	case *sources:
		return setSources(f, to, n)
	case *time.Duration:
		return setNumber(f, v, n, withUnit, parseDuration)
	case *Size:
		return setNumber(f, v, n, withUnit, parseSize)
	case *dscp:
		return f.setWord(n, integer, func() (err error) {
			*to, err = parseDSCP(n)
			return err
		})
	case *netip.Prefix:
		return f.setWord(n, text, func() (err error) {
			*to, err = parseSource(n.text)
			return err
		})
	case encoding.TextUnmarshaler: // the types of package mapping, slog.Level
		return f.setWord(n, text, func() error { return to.UnmarshalText([]byte(n.text)) })
	}
	switch v.Kind() {
	case reflect.Bool:
		return f.setBool(v, n)
	case reflect.String:
		return f.setWord(n, text, func() error {
			v.SetString(strings.Clone(n.text)) // a part would keep the whole file in memory
			return checkText(n.text)
		})
	default:
		return setNumber(f, v, n, plain, parseInteger)
	}
}

// setWord is for values that are a text, or that may also be of another kind.
func (f *field) setWord(n *node, also kind, set func() error) error {
	if n.kind != text && n.kind != untyped && n.kind != also {
		return f.wrongKind(n, "a text")
	}
	if f.oneof != nil && !slices.Contains(f.oneof, n.text) {
		err := fmt.Errorf("%q is none of %s", n.text, strings.Join(f.oneof, ", "))
		if meant := nearest(n.text, f.oneof); meant != "" {
			return withHint(fmt.Sprintf("did you mean %q?", meant), err)
		}
		return err
	}
	return set()
}

// How a number is written.
const (
	plain    = "a number"
	withUnit = "a number and its unit"
)

// setNumber is for whole numbers, durations and sizes.
func setNumber[T ~int64](f *field, v reflect.Value, n *node, want string, parse func(string) (T, error)) error {
	switch {
	case n.kind == float && want == plain:
		return fmt.Errorf("%s is not a whole number", n.text)
	case n.kind == text && want == plain:
		return f.wrongKind(n, want)
	case n.kind != integer && n.kind != float && n.kind != text && n.kind != untyped:
		return f.wrongKind(n, want)
	}
	value, err := parse(n.text)
	if err != nil {
		return err
	}
	if err := f.limits.check(int64(value), n.text); err != nil {
		return err
	}
	if v.CanUint() {
		v.SetUint(uint64(value))
	} else {
		v.SetInt(int64(value))
	}
	return nil
}

func (f *field) setBool(v reflect.Value, n *node) error {
	if n.kind != boolean && n.kind != untyped {
		return f.wrongKind(n, "true or false")
	}
	b, err := strconv.ParseBool(strings.ToLower(n.text)) // YAML has True and TRUE too
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", n.text)
	}
	v.SetBool(b)
	return nil
}

// setList is for keys that take one value or a list: want and wants say which in
// an error. In a flag or a variable, several are parted by commas.
func setList[L ~[]T, T any](f *field, to *L, n *node, want, wants string, parse func(string) (T, error)) error {
	var items []entry
	switch n.kind {
	case text:
		items = []entry{{value: *n}}
	case untyped:
		for one := range strings.SplitSeq(n.text, ",") {
			items = append(items, entry{value: node{kind: text, text: strings.TrimSpace(one)}})
		}
	case list:
		items = n.entries
	default:
		return f.wrongKind(n, wants)
	}
	values := make(L, len(items))
	for i := range items {
		item := &items[i].value
		if item.kind != text {
			return withPlace(item.at, f.wrongKind(item, want))
		}
		var err error
		if values[i], err = parse(item.text); err != nil {
			return withPlace(item.at, err)
		}
	}
	*to = values
	return nil
}

func (f *field) setURLs(to *URLs, n *node) error {
	if n.kind == list && len(n.entries) == 0 {
		return withHint("leave the key out for "+f.fallback, errors.New("the list is empty"))
	}
	return setList(f, to, n, "a url", "a url or a list of urls", parseURL)
}

// setSources takes "" for everybody, as an empty list.
func setSources(f *field, to *sources, n *node) error {
	if n.kind == text && n.text == "" {
		*to = nil
		return nil
	}
	return setList(f, to, n, "an address or a prefix such as 192.0.2.0/24", "an address, a prefix such as 192.0.2.0/24, or a list of them", parsePrefix)
}

// wrongKind says what the value is and what it should be, and how to write it.
func (f *field) wrongKind(n *node, want string) error {
	var err error
	switch n.kind {
	case integer, float, boolean, text, untyped:
		if f.secret {
			return withHint("put it in quotes", fmt.Errorf("is %s; it must be a text", n.kind))
		}
		shown := n.text
		if n.kind == text {
			shown = strconv.Quote(shown)
		}
		err = fmt.Errorf("%s is %s; it must be %s", shown, n.kind, want)
	default:
		err = fmt.Errorf("is %s; it must be %s", n.kind, want)
	}
	switch {
	case n.kind == null:
		return withHint(`leave the key out, or write its value; # begins a comment unless it is in quotes`, err)
	case want == "a text" && n.text != "":
		return withHint(fmt.Sprintf("put it in quotes: %q", n.text), err)
	case want == "a text" && (n.kind == list || n.kind == table):
		return withHint("a text that begins with [ or { must be in quotes", err)
	case n.kind == text && want != "a text" && yamlPlainKind(n.text) != text: // so it was in quotes
		return withHint("write it without quotes, as "+f.sample(), err)
	case n.kind == text && f.limits != nil:
		return withHint("write a number, "+f.limits.text, err)
	}
	return err
}

// sample is a value that the key could have.
func (f *field) sample() string {
	if f.limits != nil {
		return f.limits.text
	}
	return "true or false"
}

// checkText holds [MQTT-1.5.3-1] and [MQTT-1.5.3-2] for the texts that go to
// the broker; there is no reason to be laxer with the others.
func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.ContainsRune(s, 0):
		return errors.New("holds a zero character")
	case len(s) > 65535: // [MQTT-1.5.3]: the length has 16 bits
		return fmt.Errorf("%d bytes long; at most 65535 are allowed", len(s))
	}
	return nil
}
