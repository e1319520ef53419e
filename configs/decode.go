package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"topicast/mapping"
)

// decoder turns the tree of one file into values and gathers every fault.
type decoder struct {
	file     string
	errs     Errors
	reported map[string]bool // paths with a fault, so that what follows from it is not reported too
}

// fault reports what is wrong with the value of path.
func (d *decoder) fault(at place, path string, err error) {
	details := detailsOf(err)
	if details.at.line > 0 {
		at = details.at
	}
	d.errs = append(d.errs, &Error{
		Origin: d.file,
		Line:   int(at.line), Column: int(at.column),
		Path: path, Err: err, Hint: details.hint,
	})
	d.reported[path] = true
}

// table visits the entries of a table whose keys are known and new, and reports
// the others.
func (d *decoder) table(n *node, s *section, path string, visit func(f *field, e *entry)) {
	var seen uint64 // bit i: field i
	for i := range n.entries {
		e := &n.entries[i]
		f := s.field(e.key)
		if f == nil {
			d.unknown(e, s, path)
			continue
		}
		if bit := uint64(1) << f.index; seen&bit == 0 {
			seen |= bit
			visit(f, e)
			continue
		}
		d.fault(e.at, join(path, e.key), withHint("keep one of the two",
			fmt.Errorf("given twice; the first is in line %d", n.entry(e.key).at.line)))
	}
}

// unknown reports a key that is none. Where another must have been meant, that
// one is not reported as missing.
func (d *decoder) unknown(e *entry, s *section, path string) {
	meant, hint := suggestKey(e.key, s)
	d.fault(e.at, join(path, e.key), withHint(hint, fmt.Errorf("unknown key")))
	if meant != "" {
		d.reported[join(path, meant)] = true
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// sections goes through the tables outside the rules, and visits the scalars and
// the lists of rules.
func (d *decoder) sections(n *node, s *section, path string, visit func(f *field, e *entry)) {
	d.table(n, s, path, func(f *field, e *entry) {
		switch {
		case f.list || f.section == nil:
			visit(f, e)
		case e.value.kind == null: // all its keys are commented out
		case e.value.kind != table:
			d.fault(e.value.at, f.path, withHint("write its keys below it",
				fmt.Errorf("is %s; it must be a section", e.value.kind)))
		default:
			d.sections(&e.value, f.section, f.path, visit)
		}
	})
}

// rules decodes the lists send and receive. maxAge is that of the rules that have
// none.
func (d *decoder) rules(lists map[string]*node, maxAge time.Duration) (sends []mapping.SendRule, receives []mapping.ReceiveRule) {
	sends = decodeRules(d, lists["send"], "send", "a filter, a group, and a source or an interface", send{MaxAge: maxAge}, (*send).rule)
	receives = decodeRules(d, lists["receive"], "receive", "a group, an interface and a topic", receive{}, (*receive).rule)
	if len(sends) == 0 && len(receives) == 0 && !d.reported["send"] && !d.reported["receive"] {
		d.fault(place{}, "", withHint("the shortest is send: [{filter: lamps/#, group: \"239.1.2.3:5000\", interface: eth0}], or for the other direction receive: [{group: \"239.1.2.3:5000\", interface: eth0, topic: lamps}]",
			errors.New("no rules, neither in send nor in receive: there is nothing to do")))
	}
	return sends, receives
}

// decodeRules decodes one list of rules, each of which must at least have what
// least says. It begins as blank, and as the defaults of its keys. A rule with a
// fault is kept, so that the others keep their numbers.
func decodeRules[W, R any](d *decoder, n *node, key, least string, blank W, rule func(written *W) R) []R {
	if n == nil || n.kind == null {
		return nil
	}
	if n.kind != list {
		d.fault(n.at, key, withHint("begin each rule with a dash",
			fmt.Errorf("is %s; it must be a list of rules", n.kind)))
		return nil
	}
	s := schema().field(key).section
	one := &blank
	v := reflect.ValueOf(one).Elem()
	s.setDefaults(v)
	defaults := *one
	rules := make([]R, len(n.entries))
	for i := range n.entries {
		item, path := &n.entries[i].value, key+"["+strconv.Itoa(i)+"]"
		if item.kind != table {
			d.fault(item.at, path, withHint("a rule has at least "+least,
				fmt.Errorf("is %s; it must be a rule", item.kind)))
			continue
		}
		*one = defaults // before the rule's own keys: viper knows no defaults within a list
		d.table(item, s, path, func(f *field, e *entry) {
			if err := f.set(v.Field(f.index), &e.value); err != nil {
				d.fault(e.value.at, join(path, f.key), err)
			}
		})
		rules[i] = rule(one)
	}
	return rules
}

// setDefaults gives each key of v its default, if it has one.
func (s *section) setDefaults(v reflect.Value) {
	for i := range s.fields {
		f := &s.fields[i]
		if f.fallback != "" {
			f.mustSet(v.Field(f.index))
		}
	}
}

// mustSet gives the key its default.
func (f *field) mustSet(v reflect.Value) {
	if err := f.set(v, &node{kind: untyped, text: f.fallback}); err != nil {
		panic(fmt.Sprintf("default of %s: %v", f.path, err)) // a slip in a struct tag
	}
}
