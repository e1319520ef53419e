package configs

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// decoder turns the tree of one file into values and gathers every fault.
type decoder struct {
	file     string
	errs     Errors
	cut      bool            // there are so many that the rest was not looked at
	reported map[string]bool // paths with a fault, so that what follows from it is not reported too
}

// fault reports what is wrong with the value of path; of a table within it that may be several.
func (d *decoder) fault(at syntax.Place, path string, err error) {
	if within, several := err.(Errors); several {
		for _, e := range within {
			e.Origin, e.Path = d.file, join(path, e.Path)
			d.errs = append(d.errs, e)
		}
		d.reported[path] = true
		return
	}
	details := detailsOf(err)
	if details.at.Line > 0 {
		at = details.at
	}
	d.errs = append(d.errs, &Error{
		Origin: d.file,
		Line:   int(at.Line), Column: int(at.Column),
		Path: path, Err: err, Hint: details.hint,
	})
	d.reported[path] = true
}

// table visits the entries of a table whose keys are known and new, and reports
// the others.
func (d *decoder) table(n *syntax.Node, s *section, path string, visit func(f *field, e *syntax.Entry)) {
	var seen uint64 // bit i: the key of that place
	for i := range n.Entries {
		e := &n.Entries[i]
		f := s.field(e.Key)
		if f == nil {
			d.unknown(n, e, s, path)
			continue
		}
		if bit := uint64(1) << f.place; seen&bit == 0 {
			seen |= bit
			visit(f, e)
			continue
		}
		d.fault(e.At, join(path, e.Key), withHint("keep one of the two",
			fmt.Errorf("given twice; the first is in line %d", n.Entry(e.Key).At.Line)))
	}
}

// unknown reports a key that is none. Where another must have been meant, that
// one is not reported as missing.
func (d *decoder) unknown(n *syntax.Node, e *syntax.Entry, s *section, path string) {
	if f, hint := noSpace(e.Key, s); f != nil {
		d.fault(e.At, join(path, f.key), withHint(hint, errors.New("no colon and space after the key")))
		return
	}
	meant, hint := suggestKey(e.Key, s)
	if hint == portOfGroup {
		hint = portBehind(n.Entry("group"), e)
	}
	d.fault(e.At, join(path, e.Key), withHint(hint, fmt.Errorf("unknown key")))
	if meant != "" {
		d.reported[join(path, meant)] = true
	}
}

// portBehind says that the port is a part of group, and how to write that where the two give
// a group.
func portBehind(g, port *syntax.Entry) string {
	if g == nil || g.Value.Kind != syntax.Text || strings.Contains(g.Value.Text, "/") || !isPort(port.Value.Text) {
		return portOfGroup
	}
	return "the port belongs to group: write group: " + strconv.Quote(withPort(g.Value.Text, port.Value.Text))
}

// groupAndPort looks at group and port of a receive rule together: beside a group the port is
// mostly meant to be the group's.
func (d *decoder) groupAndPort(rule *syntax.Node, path string) {
	group, port := join(path, "group"), join(path, "port")
	g, p := rule.Entry("group"), rule.Entry("port")
	switch {
	case p != nil && g == nil && d.reported[port] && strings.HasPrefix(path, "receive"):
		d.reported[group] = true // that there is neither follows from it
		return
	case g == nil || p == nil || !isPort(p.Value.Text) || d.reported[port]:
		return
	}
	d.errs = slices.DeleteFunc(d.errs, func(e *Error) bool { return e.Path == group }) // such as that it has no port
	d.reported[group] = true
	d.fault(p.At, port, withHint(portBehind(g, p)+"; without group, port is for what comes to this host itself",
		errors.New("a rule has a group or a port, and this one has both")))
}

// noSpace returns the key in a text that would be one and its value, were there a
// colon and a blank between them: url:mqtt://b, url=mqtt://b.
func noSpace(s string, in *section) (f *field, hint string) {
	end := strings.IndexAny(s, ":= ")
	if end < 0 {
		return nil, ""
	}
	if f = in.field(s[:end]); f == nil {
		return nil, ""
	}
	value, _, _ := strings.Cut(strings.TrimLeft(s[end:], ":= "), " ") // what follows may be the next line
	if f.secret || value == "" {
		value = "…"
	}
	return f, fmt.Sprintf("write %s: %s, with a colon and a space", f.key, value)
}

// isPort reports whether a text is a port, or a capture that stands for one.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 || strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}")
}

// withPort returns an address with a port, in place of the one that it may have.
func withPort(addr, port string) string {
	if at, err := netip.ParseAddrPort(addr); err == nil {
		addr = at.Addr().String()
	}
	if strings.Count(addr, ":") > 1 && addr[0] != '[' {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// sections goes through the tables outside the rules, and visits the scalars and
// the lists of rules.
func (d *decoder) sections(n *syntax.Node, s *section, path string, visit func(f *field, e *syntax.Entry)) {
	d.table(n, s, path, func(f *field, e *syntax.Entry) {
		switch {
		case f.list || f.section == nil:
			visit(f, e)
		case e.Value.Kind == syntax.Null: // all its keys are commented out
		case e.Value.Kind != syntax.Table:
			_, space := noSpace(e.Value.Text, f.section)
			d.fault(e.Value.At, f.path, withHint(cmp.Or(replaced(e.Value.Text), space, "write its keys below it"),
				fmt.Errorf("is %s; it must be a section", e.Value.Kind)))
		default:
			d.sections(&e.Value, f.section, f.path, visit)
		}
	})
}

// rules decodes the lists send and receive. maxAge is that of the rules that have
// none.
func (d *decoder) rules(lists map[string]*syntax.Node, maxAge time.Duration) (sends []mapping.SendRule, receives []mapping.ReceiveRule) {
	sends = decodeRules(d, lists["send"], "send", "a filter, a group or a host, and a source or an interface", mapping.SendRule{MaxAge: maxAge},
		func(r *mapping.SendRule, given func(key string) bool) {
			r.AgeGiven = given("max_age")
			if given("host") && !given("ttl") {
				r.Binding.TTL = mapping.DefaultHostTTL
			}
		})
	receives = decodeRules(d, lists["receive"], "receive", "a group or a port, an interface and a topic", mapping.ReceiveRule{},
		func(r *mapping.ReceiveRule, given func(key string) bool) {
			if !given("empty") {
				r.DropEmpty = r.Retain
			}
		})
	if len(sends) == 0 && len(receives) == 0 && !d.reported["send"] && !d.reported["receive"] {
		d.fault(syntax.Place{}, "", withHint("the shortest is send: [{filter: lamps/#, group: \"239.1.2.3:5000\", interface: eth0}], or for the other direction receive: [{group: \"239.1.2.3:5000\", interface: eth0, topic: lamps}]",
			errors.New("no rules, neither in send nor in receive: there is nothing to do")))
	}
	return sends, receives
}

// decodeRules decodes one list of rules, each of which must at least have what
// least says. It begins as blank, and as the defaults of its keys; complete, if not nil,
// sets what depends on other keys. A rule with a fault is kept, so that the others keep
// their numbers.
func decodeRules[R any](d *decoder, n *syntax.Node, key, least string, blank R, complete func(r *R, given func(key string) bool)) []R {
	if n == nil || n.Kind == syntax.Null {
		return nil
	}
	if n.Kind != syntax.List {
		d.fault(n.At, key, withHint(cmp.Or(replaced(n.Text), "begin each rule with a dash"),
			fmt.Errorf("is %s; it must be a list of rules", n.Kind)))
		return nil
	}
	s := schema().field(key).section
	s.setDefaults(reflect.ValueOf(&blank).Elem())
	rules := make([]R, len(n.Entries))
	all := reflect.ValueOf(rules)
	for i := range n.Entries {
		if len(d.errs) >= mostFaults {
			d.cut = true
			return rules[:i]
		}
		item, path := &n.Entries[i].Value, key+"["+strconv.Itoa(i)+"]"
		if item.Kind != syntax.Table {
			_, space := noSpace(item.Text, s)
			d.fault(item.At, path, withHint(cmp.Or(replaced(item.Text), space, "a rule has at least "+least),
				fmt.Errorf("is %s; it must be a rule", item.Kind)))
			continue
		}
		rules[i] = blank // before the rule's own keys: viper knows no defaults within a list
		v := all.Index(i)
		d.table(item, s, path, func(f *field, e *syntax.Entry) {
			if err := f.set(f.of(v), &e.Value); err != nil {
				d.fault(e.Value.At, join(path, f.key), err)
			}
		})
		d.ends(item, path)
		d.groupAndPort(item, path)
		if complete != nil {
			complete(&rules[i], func(key string) bool { return item.Entry(key) != nil })
		}
	}
	return rules
}

// ends looks at source and interface together: they tell on which end of a rule the
// other one is to be looked for.
func (d *decoder) ends(rule *syntax.Node, path string) {
	if d.reported[join(path, "host")] && rule.Entry("group") == nil {
		d.reported[join(path, "group")] = true // that there is neither follows from it
	}
	source, on := join(path, "source"), join(path, "interface")
	s, i := rule.Entry("source"), rule.Entry("interface")
	switch {
	case s == nil && d.reported[on]:
		d.reported[source] = true // that there is neither follows from it
	case s == nil || i == nil || !d.reported[source]:
	default:
		if _, err := parsePrefix(i.Value.Text); err != nil || !maybeName(s.Value.Text) {
			return
		}
		for _, e := range d.errs {
			if e.Path == source {
				e.Hint = fmt.Sprintf("source and interface are swapped: write source: %s and interface: %s", i.Value.Text, s.Value.Text)
				d.reported[on] = true
			}
		}
	}
}

// setDefaults gives each key of v its default, if it has one.
func (s *section) setDefaults(v reflect.Value) {
	for i := range s.fields {
		f := &s.fields[i]
		if f.fallback != "" {
			f.mustSet(f.of(v))
		}
	}
}

// mustSet gives the key its default.
func (f *field) mustSet(v reflect.Value) {
	if err := f.set(v, &syntax.Node{Kind: syntax.Untyped, Text: f.fallback}); err != nil {
		panic(fmt.Sprintf("default of %s: %v", f.path, err)) // a slip in a struct tag
	}
}
