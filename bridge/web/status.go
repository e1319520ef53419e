package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// status answers with the state of everything. One that is narrowed is for clients that ask
// again and again, as the page does: it is compact, and not sent twice.
func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	q, err := queryOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a, err := h.answers.get(r.Context(), fmt.Sprintf("%#v", q), func(out io.Writer) error {
		s, sends, receives := h.bridge.Snapshot(q)
		if q == (bridge.Query{}) {
			writeStatus(out, &s, sends, receives)
			return nil
		}
		s.Rules, s.Receive = slices.AppendSeq([]send.Status{}, sends), slices.Collect(receives)
		return json.NewEncoder(out).Encode(s)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("ETag", a.tag)
	if unchanged(r, a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	a.send(w, r)
}

// writeStatus writes what json.MarshalIndent would, rule by rule: 100,000 need not be
// in memory at once, nor their text, several times over while it grows, for as long as
// somebody takes to read it.
func writeStatus(w io.Writer, s *bridge.Status, sends iter.Seq[send.Status], receives iter.Seq[receive.Status]) {
	head := *s
	head.Rules, head.Receive = []send.Status{}, nil
	text := new(bytes.Buffer)
	encoder(text, "").Encode(&head) // a Status has nothing that JSON has not
	// The lists come last: they go where the empty one ends.
	w.Write(bytes.TrimSuffix(text.Bytes(), []byte("[]\n}\n")))
	if !writeList(w, "[", sends) {
		io.WriteString(w, "[]")
	}
	writeList(w, ",\n  \"receive\": [", receives)
	io.WriteString(w, "\n}\n")
}

func encoder(w io.Writer, prefix string) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetIndent(prefix, "  ")
	e.SetEscapeHTML(false)
	return e
}

// writeList writes the elements of a list, each with the same memory, with what goes
// before and after. It reports whether there is any: of none it writes nothing.
func writeList[T any](w io.Writer, before string, all iter.Seq[T]) (any bool) {
	text := new(bytes.Buffer)
	e := encoder(text, "    ")
	for x := range all {
		text.Reset()
		text.WriteString(before)
		text.WriteString("\n    ")
		e.Encode(&x)
		w.Write(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
		before, any = ",", true
	}
	if any {
		io.WriteString(w, "\n  ]")
	}
	return any
}

// queryOf reads what narrows a status. A parameter that there is not is an error: who
// misspells limit must not get 10,000 rules.
func queryOf(v url.Values) (q bridge.Query, err error) {
	for name, values := range v {
		value := values[len(values)-1]
		switch name {
		case "match":
			q.Match = value
		case "state":
			if q.State = value; !slices.Contains(bridge.Views(), value) {
				return q, fmt.Errorf("state=%q is not %s", value, strings.Join(bridge.Views(), ", "))
			}
		case "sort":
			if q.Sort = value; !slices.Contains(bridge.Sorts(), value) {
				return q, fmt.Errorf("sort=%q is not %s", value, strings.Join(bridge.Sorts(), ", "))
			}
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 {
				return q, fmt.Errorf("limit=%q is not a number from 1", value)
			}
		default:
			return q, fmt.Errorf("there is no parameter %q; there are match, state, sort and limit", name)
		}
	}
	return q, nil
}
