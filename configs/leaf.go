package configs

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// set decodes a value into the variable of its key. It is ours because
// mapstructure, which viper decodes with, takes 5 for five nanoseconds, 0010
// for the text "8" and 1234 for a topic, forgets where a value was written, and
// knows no defaults within a list. It is also called for each key of each rule,
// of which there may be 100,000.
func (f *field) set(v reflect.Value, n *syntax.Node) error {
	if err := f.placeholder(v, n); err != nil {
		return err
	}
	switch {
	case f.parse == "dscp":
		return f.setWord(n, syntax.Integer, func() error {
			value, err := parseDSCP(n)
			v.SetUint(uint64(value))
			return err
		})
	case f.parse == "interfaces":
		return f.setInterfaces(v, n)
	case f.whenTrue != "":
		return f.setWord(n, syntax.Text, func() error {
			v.SetBool(n.Text == f.whenTrue)
			return nil
		})
	}
	switch to := v.Addr().Interface().(type) {
	case *URLs:
		return f.setURLs(to, n)
	case *Hosts:
		return setSeveral(f, to, n, "a name such as topicast.example.com", "a name such as topicast.example.com, or a list of them", parseHost)
	case *Protocols:
		return setSeveral(f, to, n, "a protocol such as mqtt", "a protocol such as mqtt, or a list of them", parseProtocol)
	case *[]mapping.GroupRange:
		return setList(f, to, n, "a group such as 239.1.2.3:5000", "a group such as 239.1.2.3:5000, or a list of them", mapping.ParseGroupRange)
	case *[]netip.Prefix:
		return setSources(f, to, n)
	case *time.Duration:
		return setNumber(f, v, n, withUnit, parseDuration)
	case *mapping.Repeat:
		return f.setRepeat(to, n)
	case **mapping.Answer:
		return f.setAnswer(to, n)
	case *Size:
		return setNumber(f, v, n, withUnit, ParseSize)
	case *netip.Prefix:
		return f.setWord(n, syntax.Text, func() (err error) {
			*to, err = parseSource(n.Text)
			return err
		})
	case *Protocol: // 5 is a number
		return f.setWord(n, syntax.Integer, func() error {
			*to = Protocol(n.Text)
			return nil
		})
	case *mapping.Group:
		return f.setWord(n, syntax.Text, func() error {
			err := to.UnmarshalText([]byte(n.Text))
			if err != nil && unicast(n.Text) {
				return withHint("a single host stands in host, in place of group", err)
			}
			return err
		})
	case encoding.TextUnmarshaler: // the types of package mapping, slog.Level
		return f.setWord(n, syntax.Text, func() error { return to.UnmarshalText([]byte(n.Text)) })
	}
	switch v.Kind() {
	case reflect.Bool:
		return f.setBool(v, n)
	case reflect.String:
		return f.setWord(n, syntax.Text, func() error {
			v.SetString(strings.Clone(n.Text)) // a part would keep the whole file in memory
			return checkText(n.Text)
		})
	default:
		return setNumber(f, v, n, plain, parseInteger)
	}
}

var expression = regexp.MustCompile(`\{[^{}]*\}`)

// unicast reports whether a target is one of IPv4 that is no group, whatever its expressions come to.
func unicast(target string) bool {
	to, err := netip.ParseAddrPort(expression.ReplaceAllString(target, "1"))
	return err == nil && to.Addr().Is4() && !to.Addr().IsMulticast() && to.Addr().As4()[0] < 224
}

// setWord decodes values that are a text, or that may also be of another kind.
func (f *field) setWord(n *syntax.Node, also syntax.Kind, set func() error) error {
	if n.Kind != syntax.Text && n.Kind != syntax.Untyped && n.Kind != also {
		return f.wrongKind(n, "a text")
	}
	if f.oneof != nil && !slices.Contains(f.oneof, n.Text) {
		err := fmt.Errorf("%q is none of %s", n.Text, strings.Join(f.oneof, ", "))
		if meant := nearest(n.Text, f.oneof); meant != "" {
			return withHint(fmt.Sprintf("did you mean %q?", meant), err)
		}
		return err
	}
	return set()
}

// How a number is written, and a boolean.
const (
	plain    = "a number"
	withUnit = "a number and its unit"

	trueOrFalse = "true or false"
)

// repeatKeys are those of repeat, each with the place of its variable in setRepeat.
var repeatKeys = section{fields: []field{
	{key: "times", limits: &limits{1, mapping.MaxTimes, fmt.Sprint("1 to ", mapping.MaxTimes)}},
	{key: "every", place: 1, limits: &limits{int64(mapping.MinRepeatEvery), int64(mapping.MaxRepeatEvery), "1ms to 10s"}},
}}

// setRepeat takes a number of times, or a table of times and every.
func (f *field) setRepeat(to *mapping.Repeat, n *syntax.Node) error {
	var times int
	every := mapping.DefaultRepeatEvery
	const example = "write { times: 3, every: 20ms }"
	switch n.Kind {
	case syntax.Integer, syntax.Untyped:
		if err := repeatKeys.fields[0].set(reflect.ValueOf(&times).Elem(), n); err != nil {
			return err
		}
	case syntax.Table:
		d := decodeTable(n, &repeatKeys, &times, &every)
		if times == 0 && !d.reported["times"] {
			d.fault(n.At, "times", withHint(example, errors.New("missing")))
		}
		if d.errs != nil {
			return d.errs
		}
	default:
		return withHint(example, f.wrongKind(n, "a number of times, or times and every"))
	}
	r, err := mapping.NewRepeat(times, every)
	*to = r
	return err
}

// setNumber decodes whole numbers, durations and sizes.
func setNumber[T ~int64](f *field, v reflect.Value, n *syntax.Node, want string, parse func(string) (T, error)) error {
	switch {
	case n.Kind == syntax.Float && want == plain:
		return fmt.Errorf("%s is not a whole number", n.Text)
	case n.Kind == syntax.Text && want == plain:
		return f.wrongKind(n, want)
	case n.Kind != syntax.Integer && n.Kind != syntax.Float && n.Kind != syntax.Text && n.Kind != syntax.Untyped:
		return f.wrongKind(n, want)
	}
	value, err := parse(n.Text)
	if err != nil {
		return err
	}
	if err := f.limits.check(int64(value), n.Text); err != nil {
		return err
	}
	if v.CanUint() {
		v.SetUint(uint64(value))
	} else {
		v.SetInt(int64(value))
	}
	return nil
}

func (f *field) setBool(v reflect.Value, n *syntax.Node) error {
	if n.Kind != syntax.Boolean && n.Kind != syntax.Untyped {
		return f.wrongKind(n, trueOrFalse)
	}
	b, err := strconv.ParseBool(strings.ToLower(n.Text)) // YAML has True and TRUE too
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", n.Text)
	}
	v.SetBool(b)
	return nil
}

// setList decodes keys that take one value or a list: want and wants name them in an
// error. In a flag or a variable, commas separate several.
func setList[L ~[]T, T any](f *field, to *L, n *syntax.Node, want, wants string, parse func(string) (T, error)) error {
	var items []syntax.Entry
	switch n.Kind {
	case syntax.Text:
		items = []syntax.Entry{{Value: *n}}
	case syntax.Untyped:
		for one := range strings.SplitSeq(n.Text, ",") {
			items = append(items, syntax.Entry{Value: syntax.Node{Kind: syntax.Text, Text: strings.TrimSpace(one)}})
		}
	case syntax.List:
		items = n.Entries
	default:
		return f.wrongKind(n, wants)
	}
	values := make(L, len(items))
	for i := range items {
		item := &items[i].Value
		if item.Kind != syntax.Text {
			return withPlace(item.At, f.wrongKind(item, want))
		}
		var err error
		if values[i], err = parse(item.Text); err != nil {
			return withPlace(item.At, err)
		}
	}
	*to = values
	return nil
}

func (f *field) setURLs(to *URLs, n *syntax.Node) error {
	if n.Kind == syntax.List && len(n.Entries) == 0 {
		return withHint("leave the key out for "+f.fallback, errors.New("the list is empty"))
	}
	return setList(f, to, n, "a url", "a url or a list of urls", parseURL)
}

// setSeveral is setList, but that it takes "" for none, as an empty list.
func setSeveral[L ~[]T, T any](f *field, to *L, n *syntax.Node, want, wants string, parse func(string) (T, error)) error {
	if (n.Kind == syntax.Text || n.Kind == syntax.Untyped) && n.Text == "" {
		*to = nil
		return nil
	}
	return setList(f, to, n, want, wants, parse)
}

// setSources takes "" for everybody, as an empty list.
func setSources(f *field, to *[]netip.Prefix, n *syntax.Node) error {
	if n.Kind == syntax.Text && n.Text == "" {
		*to = nil
		return nil
	}
	return setList(f, to, n, "an address or a prefix such as 192.0.2.0/24", "an address, a prefix such as 192.0.2.0/24, or a list of them", parsePrefix)
}

// setInterfaces takes a name, or a list of names and patterns, which becomes a text with commas.
func (f *field) setInterfaces(v reflect.Value, n *syntax.Node) error {
	if n.Kind != syntax.List {
		return f.setWord(n, syntax.Text, func() error {
			v.SetString(strings.Clone(n.Text)) // a part would keep the whole file in memory
			return checkText(n.Text)
		})
	}
	var names []string
	if err := setList(f, &names, n, "the name of an interface", "the name of an interface, or a list of them", func(name string) (string, error) {
		if name == "" || strings.Contains(name, ",") {
			return "", fmt.Errorf("%q is not the name of one interface", name)
		}
		return name, checkText(name)
	}); err != nil {
		return err
	}
	if len(names) == 0 {
		return withHint("name an interface, or a pattern such as vlan*", errors.New("the list is empty"))
	}
	v.SetString(strings.Join(names, ", "))
	return nil
}

// wrongKind returns an error that says what the value is, what it should be, and how
// to write it.
func (f *field) wrongKind(n *syntax.Node, want string) error {
	if f.secret && n.Text != "" {
		return withHint("put it in quotes", fmt.Errorf("is %s; it must be a text", n.Kind))
	}
	var err error
	switch n.Kind {
	case syntax.Integer, syntax.Float, syntax.Boolean, syntax.Text, syntax.Untyped:
		shown := n.Text
		if n.Kind == syntax.Text {
			shown = strconv.Quote(shown)
		}
		err = fmt.Errorf("%s is %s; it must be %s", shown, n.Kind, want)
	default:
		err = fmt.Errorf("is %s; it must be %s", n.Kind, want)
	}
	switch {
	case n.Kind == syntax.Null:
		return withHint(`leave the key out, or write its value; one that begins with #, & or ! must be in quotes`, err)
	case want == trueOrFalse && booleans[strings.ToLower(n.Text)] != "":
		return withHint("write "+booleans[strings.ToLower(n.Text)], err)
	case want == "a text" && f.oneof != nil:
		return withHint("write one of "+strings.Join(f.oneof, ", "), err)
	case want == "a text" && f.key == "rate" && n.Kind == syntax.Integer:
		return withHint(fmt.Sprintf("write %s/s for so many a second, %[1]s/m a minute, or %[1]s/h an hour", n.Text), err)
	case want == "a text" && f.key == "rate" && n.Kind == syntax.Table:
		return withHint("write 20/s for so many a second, 20/m a minute, or 20/h an hour", err)
	case want == "a text" && f.key == "counter" && n.Kind == syntax.Integer:
		return withHint(fmt.Sprintf("write u8@%s for the one byte at %[1]s, or u16@%[1]s for two", n.Text), err)
	case want == "a text" && f.path == "web.listen" && n.Kind == syntax.Integer:
		return withHint(fmt.Sprintf("write 127.0.0.1:%s; :%[1]s for every address of this host", n.Text), err)
	case want == "a text" && n.Text != "":
		return withHint(fmt.Sprintf("put it in quotes: %q", n.Text), err)
	case want == "a text" && (n.Kind == syntax.List || n.Kind == syntax.Table):
		return withHint("a text that begins with [ or { must be in quotes", err)
	case n.Kind == syntax.Text && want != "a text" && syntax.PlainKind(n.Text) != syntax.Text: // so it was in quotes
		return withHint("write it without quotes"+f.sample(n.Text), err)
	case n.Kind == syntax.Text && f.limits != nil:
		return withHint("write a number, "+f.limits.text, err)
	}
	return err
}

// booleans are words that others have for true and false.
var booleans = map[string]string{
	"yes": "true", "y": "true", "on": "true", "enabled": "true", "1": "true",
	"no": "false", "n": "false", "off": "false", "disabled": "false", "0": "false", "none": "false",
}

// sample returns what the key takes instead of a text: the text itself, if it does.
func (f *field) sample(written string) string {
	if f.limits == nil {
		return ": " + strings.ToLower(written)
	}
	if n, err := parseInteger(written); err == nil && f.limits.check(n, written) == nil {
		return ": " + written
	}
	return ", as " + f.limits.text
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
