package configs

import (
	"fmt"
	"reflect"
	"strconv"

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

// sections goes through the tables outside the rules, down to the scalars.
func (d *decoder) sections(n *node, s *section, path string, scalar func(f *field, e *entry)) (rules *node) {
	d.table(n, s, path, func(f *field, e *entry) {
		switch {
		case f.list:
			rules = &e.value
		case f.section == nil:
			scalar(f, e)
		case e.value.kind == null: // all its keys are commented out
		case e.value.kind != table:
			d.fault(e.value.at, f.path, withHint("write its keys below it",
				fmt.Errorf("is %s; it must be a section", e.value.kind)))
		default:
			d.sections(&e.value, f.section, f.path, scalar)
		}
	})
	return rules
}

// rules decodes the list send. A rule with a fault is kept, so that the others
// keep their numbers.
func (d *decoder) rules(n *node) []mapping.SendRule {
	if n == nil || n.kind == null || n.kind == list && len(n.entries) == 0 {
		d.fault(place{}, "send", withHint("the shortest has a filter, a group and an interface: send: [{filter: lamps/#, group: \"239.1.2.3:5000\", interface: eth0}]",
			fmt.Errorf("no rules: there is nothing to do")))
		return nil
	}
	if n.kind != list {
		d.fault(n.at, "send", withHint("begin each rule with a dash",
			fmt.Errorf("is %s; it must be a list of rules", n.kind)))
		return nil
	}
	s := schema().field("send").section
	var one send
	v := reflect.ValueOf(&one).Elem()
	defaults := sendDefaults(s)
	rules := make([]mapping.SendRule, len(n.entries))
	for i := range n.entries {
		item, path := &n.entries[i].value, "send["+strconv.Itoa(i)+"]"
		if item.kind != table {
			d.fault(item.at, path, withHint("a rule has at least a filter, a group, and a source or an interface",
				fmt.Errorf("is %s; it must be a rule", item.kind)))
			continue
		}
		one = defaults // before the rule's own keys: viper knows no defaults within a list
		d.table(item, s, path, func(f *field, e *entry) {
			if err := f.set(v.Field(f.index), &e.value); err != nil {
				d.fault(e.value.at, join(path, f.key), err)
			}
		})
		rules[i] = one.rule()
	}
	return rules
}

func sendDefaults(s *section) send {
	var one send
	v := reflect.ValueOf(&one).Elem()
	for i := range s.fields {
		f := &s.fields[i]
		if f.fallback != "" {
			f.mustSet(v.Field(f.index))
		}
	}
	return one
}

// mustSet gives the key its default.
func (f *field) mustSet(v reflect.Value) {
	if err := f.set(v, &node{kind: untyped, text: f.fallback}); err != nil {
		panic(fmt.Sprintf("default of %s: %v", f.path, err)) // a slip in a struct tag
	}
}
