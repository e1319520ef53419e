package web

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// A view is what all pages show that ask for the same rules, in the same order. It is looked at
// once for all of them, and they are told what has changed.
type view struct {
	query   bridge.Query
	viewers map[*viewer]bool // guarded by the mu of live

	// Of live.run: as it was told last.
	head  fields
	rules map[string]json.RawMessage // as text, which is a fifth of what its fields take
	order []string
}

// fields are those of a JSON object.
type fields map[string]json.RawMessage

// A message tells pages of a view what has changed. Members of head and rules are those of /status;
// null: it is gone.
type message struct {
	Full   bool                       `json:"full,omitempty"` // it is all, and no change
	Now    int64                      `json:"now"`            // milliseconds since 1970
	Head   fields                     `json:"head,omitempty"`
	Rules  map[string]json.RawMessage `json:"rules,omitempty"`
	Order  *[]string                  `json:"order,omitempty"` // the names, if they or their order are others
	Past   map[string]graph           `json:"past,omitempty"`  // of rules that are told of for the first time
	Totals [][]uint32                 `json:"totals,omitempty"`

	Samples uint64 `json:"samples"` // how many there are; with the first there are no rates yet

	// The newest points of the graphs of rules, in their order; none: there are no newer ones.
	In   []uint32 `json:"in,omitempty"`
	Lost []uint32 `json:"lost,omitempty"`
}

// look looks at the rules, and returns what has changed, as JSON. sampled: the graphs have a point more.
func (v *view) look(b Bridge, p *past, sampled bool) []byte {
	s, sends, receives := b.Snapshot(v.query)
	m := message{Now: time.Now().UnixMilli(), Samples: p.round, Rules: make(map[string]json.RawMessage), Past: make(map[string]graph)}
	head := membersOf(textOf(s))
	delete(head, "rules")
	m.Head, v.head = changed(v.head, head), head

	was := v.rules
	rules, order := textsOf(sends, receives)
	for name, is := range rules {
		if before, known := was[name]; !known {
			m.Rules[name] = is
			if g := p.graph(name); g.In != nil || g.Lost != nil {
				m.Past[name] = g
			}
		} else if !bytes.Equal(before, is) {
			m.Rules[name] = textOf(changed(membersOf(before), membersOf(is)))
		}
	}
	if !slices.Equal(v.order, order) || was == nil {
		m.Order = &order
	}
	v.rules, v.order = rules, order
	if sampled {
		for _, name := range order {
			in, lost := p.last(name)
			m.In, m.Lost = append(m.In, in), append(m.Lost, lost)
		}
		for _, n := range p.newest {
			m.Totals = append(m.Totals, []uint32{n})
		}
	}
	return textOf(m)
}

// textsOf are rules as JSON, and their names in the order of their places.
func textsOf(sends iter.Seq[send.Status], receives iter.Seq[receive.Status]) (rules map[string]json.RawMessage, order []string) {
	type placed struct {
		name  string
		place int
	}
	var list []placed
	rules = make(map[string]json.RawMessage)
	// Nobody looks at the place, nor at the bytes, and they change all the time.
	for r := range sends {
		list = append(list, placed{r.Name, r.Place})
		r.Place, r.SentBytes = 0, 0
		rules[r.Name] = textOf(&r)
	}
	for r := range receives {
		list = append(list, placed{r.Name, r.Place})
		r.Place = 0
		rules[r.Name] = append([]byte(`{"direction":"receive",`), textOf(&r)[1:]...)
	}
	slices.SortFunc(list, func(a, b placed) int { return a.place - b.place })
	order = make([]string, len(list))
	for i, r := range list {
		order[i] = r.name
	}
	return rules, order
}

// all is all that was seen at the last look, with the graphs, as JSON.
func (v *view) all(p *past) []byte {
	m := message{Full: true, Now: time.Now().UnixMilli(), Samples: p.round, Head: v.head, Rules: v.rules, Order: &v.order, Past: make(map[string]graph)}
	for _, name := range v.order {
		if g := p.graph(name); g.In != nil || g.Lost != nil {
			m.Past[name] = g
		}
	}
	for i := range p.totals {
		m.Totals = append(m.Totals, p.points(&p.totals[i]))
	}
	return textOf(m)
}

func textOf(x any) []byte {
	text, err := json.Marshal(x)
	if err != nil {
		panic(err) // a status has nothing that JSON has not
	}
	return text
}

// membersOf are those of an object.
func membersOf(text []byte) (f fields) {
	if err := json.Unmarshal(text, &f); err != nil {
		panic(err) // it is of textOf
	}
	return f
}

// changed are the fields that are others than they were, and null for those that are gone.
func changed(was, is fields) fields {
	c := make(fields)
	for name, value := range is {
		if !bytes.Equal(was[name], value) {
			c[name] = value
		}
	}
	for name := range was {
		if _, there := is[name]; !there {
			c[name] = json.RawMessage("null")
		}
	}
	return c
}
