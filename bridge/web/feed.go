package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"topicast/bridge/tap"
)

const (
	// maxFeeds is how many may be open at a time; topicast tap has the other places of a tap.
	maxFeeds = 2

	// feedPeriod is how often a feed tells, and maxFed how many events at a time: nobody reads more,
	// and a browser has to show them.
	feedPeriod = 250 * time.Millisecond
	maxFed     = 25

	// fedPayload is how many bytes of each payload it has, if it has any.
	fedPayload = 128
)

// feeds tells pages what becomes of each message, while they ask for it.
type feeds struct {
	tap      *tap.Tap
	payloads bool
	places   chan struct{}
	ended    <-chan struct{}
}

// fed is what a feed tells at a time.
type fed struct {
	Events   []json.RawMessage `json:"events"`
	Missed   uint64            `json:"missed,omitempty"` // how many more there were
	Payloads bool              `json:"payloads"`         // whether events have theirs
}

// serve answers with events as they happen; ?match= and lost= narrow them.
func (f *feeds) serve(w http.ResponseWriter, r *http.Request) {
	filter, err := feedFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.payloads {
		filter.Payload = fedPayload
	}
	select {
	case f.places <- struct{}{}:
		defer func() { <-f.places }()
	default:
		http.Error(w, fmt.Sprintf("%d pages have the live feed open already; topicast tap has the same", maxFeeds), http.StatusServiceUnavailable)
		return
	}
	watcher, err := f.tap.Watch(filter)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer watcher.Close()
	s, ok := newStream(w, r)
	told := time.Now()
	ok = ok && s.send(textOfFed(nil, 0, f.payloads)) == nil // the page knows from here on that it is told
	for ok {
		select {
		case <-time.After(feedPeriod - tap.Period):
		case <-r.Context().Done():
			return
		case <-f.ended:
			return
		}
		events, missed, err := watcher.Next(r.Context())
		if err != nil {
			return
		}
		if len(events) == 0 && time.Since(told) < samplePeriod {
			continue
		}
		told = time.Now() // now and then also of nothing: so who has gone is found out
		ok = s.send(textOfFed(events, missed, f.payloads)) == nil
	}
}

func textOfFed(events []tap.Event, missed uint64, payloads bool) []byte {
	told := fed{Events: make([]json.RawMessage, len(events)), Missed: missed, Payloads: payloads}
	for i := range events {
		told.Events[i] = events[i].AppendJSON(nil)
	}
	text, err := json.Marshal(told)
	if err != nil {
		panic(err) // AppendJSON writes JSON
	}
	return text
}

// feedFilter reads what narrows a feed.
func feedFilter(v url.Values) (tap.Filter, error) {
	f := tap.Filter{Most: maxFed}
	for name, values := range v {
		value := values[len(values)-1]
		switch name {
		case "match":
			f.Text = value
		case "lost":
			var err error
			if f.Lost, err = strconv.ParseBool(value); err != nil {
				return f, fmt.Errorf("lost=%q is not true or false", value)
			}
		default:
			return f, fmt.Errorf("there is no parameter %q; there are match and lost", name)
		}
	}
	return f, nil
}
