package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"topicast/bridge/tap"
	"topicast/mapping"
)

// handler answers
//
//	GET  /status /readyz /healthz /metrics   as the web pages do
//	GET  /tap           events as they happen, a JSON object a line; ?topic=, to=, rule=, lost= and payload= narrow them, and heard= adds that a datagram has come
//	POST /rejoin        ?rule=; answers with a JSON list of the rules that join their groups anew
//	POST /disable       ?rule=; likewise, of the rules that are switched off
//	POST /enable        ?rule=; likewise, and on again
//	POST /flush         ?rule= or ?all=true; discards what waits, and answers with a JSON list of account.Flushed
//
// An error is a status above 399 and a line.
func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/status", "/readyz", "/healthz", "/metrics"} {
		mux.Handle("GET "+path, o.Status)
	}
	mux.HandleFunc("GET /tap", func(w http.ResponseWriter, r *http.Request) { serveTap(o, w, r) })
	mux.HandleFunc("POST /flush", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		by, _ := r.Context().Value(asker{}).(string)
		flushed, err := o.Bridge.Flush(query.Get("rule"), query.Get("all") == "true", by)
		answerWith(w, flushed, err)
	})
	direct := func(path string, do func(rule, by string) ([]string, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			by, _ := r.Context().Value(asker{}).(string)
			rules, err := do(r.URL.Query().Get("rule"), by)
			answerWith(w, rules, err)
		})
	}
	direct("/rejoin", func(rule, _ string) ([]string, error) { return o.Bridge.Rejoin(rule) })
	direct("/disable", o.Bridge.Disable)
	direct("/enable", o.Bridge.Enable)
	return mux
}

// answerWith answers with what was done, or why it was not.
func answerWith(w http.ResponseWriter, done any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(done)
}

// asker is the key of the asking user, in the context of a request.
type asker struct{}

// unknownAsker is one of whom no more is known.
const unknownAsker = "somebody at the control socket"

// Missed is a line of the stream of events, between two of them: how many were missed there.
type Missed struct {
	Missed uint64 `json:"missed"`
}

// serveTap writes events until the client goes.
func serveTap(o Options, w http.ResponseWriter, r *http.Request) {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.Rule != "" {
		if err := o.Bridge.Known(f.Rule); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
	}
	watcher, err := o.Tap.Watch(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer watcher.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	if flush.Flush() != nil { // the client knows from here on that it watches
		return
	}
	var line []byte
	for {
		events, missed, err := watcher.Next(r.Context())
		if err != nil {
			return
		}
		for i := range events {
			line = append(events[i].AppendJSON(line[:0]), '\n')
			if _, err := w.Write(line); err != nil {
				return
			}
		}
		if missed > 0 {
			if _, err := fmt.Fprintf(w, "{\"missed\":%d}\n", missed); err != nil {
				return
			}
		}
		if (len(events) > 0 || missed > 0) && flush.Flush() != nil {
			return
		}
	}
}

// filterOf reads what narrows the events. A parameter that there is not is an error.
func filterOf(v url.Values) (f tap.Filter, err error) {
	for name, values := range v {
		value := values[len(values)-1]
		switch name {
		case "topic":
			filter, err := mapping.ParseFilter(value)
			if err != nil {
				return f, fmt.Errorf("topic=%q: %w", value, err)
			}
			f.Topic = filter.Match
		case "to":
			if f.To, err = parseTo(value); err != nil {
				return f, err
			}
		case "rule":
			f.Rule = value
		case "lost":
			if f.Lost, err = strconv.ParseBool(value); err != nil {
				return f, fmt.Errorf("lost=%q is not true or false", value)
			}
		case "heard":
			if f.Heard, err = strconv.ParseBool(value); err != nil {
				return f, fmt.Errorf("heard=%q is not true or false", value)
			}
		case "payload":
			if f.Payload, err = strconv.Atoi(value); err != nil || f.Payload < 0 {
				return f, fmt.Errorf("payload=%q is not a number of bytes", value)
			}
		default:
			return f, fmt.Errorf("there is no parameter %q; there are topic, to, rule, lost, heard and payload", name)
		}
	}
	return f, nil
}

// parseTo reads an address with or without a port.
func parseTo(s string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("to=%q is neither an address nor address:port", s)
	}
	return netip.AddrPortFrom(a.Unmap(), 0), nil
}
