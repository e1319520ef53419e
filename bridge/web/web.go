package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/bridge/tap"
)

// Bridge is what the pages show; *bridge.Bridge is one.
type Bridge interface {
	prometheus.Collector
	WriteRules(io.Writer) error // the metrics that the Collector leaves out, as text
	Snapshot(bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status])
	Readiness() bridge.Readiness
	Counts() iter.Seq[bridge.RuleCounts]
	Effective(rule string) (keys []bridge.Key, ok bool)
}

// Handler answers
//
//	/status   the state of everything, as JSON; ?match=, state=, sort= and limit= narrow it to some rules
//	/metrics  the counters, for Prometheus, with those of the Go runtime and the process
//	/healthz  200 while the process lives
//	/readyz   200 when messages can flow, else 503; then what is pending or degraded, a line each
//
// to GET and HEAD, and with the status page, which Listen serves too,
//
//	/         the page, for people: the same parameters
//	/rule     what is in force of the rule ?name=, by its keys
//	/events   what the page shows, and from then on what changes
//	/feed     what becomes of each message, as it happens; ?match= and lost= narrow it
//
// Nothing can be changed through it.
func Handler(b Bridge) http.Handler { return newHandler(b).mux }

func newHandler(b Bridge) *handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(b, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := &handler{b, registry, newAnswers(), newShortAnswers(), http.NewServeMux()}
	h.mux.HandleFunc("GET /status", h.status)
	h.mux.HandleFunc("GET /metrics", h.metrics)
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	h.mux.HandleFunc("GET /readyz", h.ready)
	return h
}

// servePage adds the status page, and what it asks for.
func (h *handler) servePage(l *live, f *feeds) {
	h.mux.HandleFunc("GET /{$}", h.page)
	h.mux.HandleFunc("GET /rule", own(h.rule))
	h.mux.HandleFunc("GET /events", own(streamed(l.events)))
	h.mux.HandleFunc("GET /feed", own(streamed(f.serve)))
}

// handler answers what takes time.
type handler struct {
	bridge   Bridge
	registry *prometheus.Registry
	answers  *answers
	short    *answers // of /readyz, which waits for no long one
	mux      *http.ServeMux
}

// Options says where to serve.
type Options struct {
	Address string       // host:port
	Hosts   []string     // names to serve under, beside addresses, this host's name and those that nobody can register
	Logger  *slog.Logger // nil: none
	Tap     *tap.Tap     // what the live feed of the page tells of; nil: of nothing

	// Descriptors is how many file descriptors there are for it beside others that heal;
	// connections take a quarter of them at most. 0: there are enough.
	Descriptors int
}

// maxHeader bounds the headers of a request, in bytes.
const maxHeader = 16 << 10

// Server listens for requests.
type Server struct {
	listener *connections
	http     http.Server
	live     *live
}

// Listen opens the address, so that a port already taken is known at the start.
func Listen(o Options, b Bridge) (*Server, error) {
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("web.listen: %w; %s, or \"\" for no status page", err, instead(err))
	}
	return serverOn(l, o, b), nil
}

func serverOn(l net.Listener, o Options, b Bridge) *Server {
	most := maxConnections
	if o.Descriptors > 0 {
		most = max(1, min(most, o.Descriptors/4))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Tap == nil {
		o.Tap = new(tap.Tap)
	}
	h, pages := newHandler(b), newLive(b, o.Logger, min(maxStreams, most/4))
	h.servePage(pages, &feeds{tap: o.Tap, payloads: onLoopback(l.Addr()), places: make(chan struct{}, min(maxFeeds, most/8)), ended: pages.ended})
	s := &Server{live: pages, listener: newConnections(l, most), http: http.Server{
		Handler: checkHost(o.Hosts, h.mux), ConnContext: withConnection,
		// A client that dawdles must not hold a connection for ever; for writing, see connection.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
	}}
	s.http.ConnState = s.listener.changed
	s.http.ErrorLog = log.New(errorLog{o.Logger}, "", 0)
	return s
}

// onLoopback reports whether only programs of this host can reach a listener: who they are they
// could find out otherwise, and payloads may be shown to them.
func onLoopback(a net.Addr) bool {
	at, ok := a.(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// errorLog is where the server of net/http tells of what it cannot do.
type errorLog struct{ *slog.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	l.Warn("status page", "err", strings.TrimSpace(string(line)))
	return len(line), nil
}

// instead says what to do where an address cannot be listened on.
func instead(err error) string {
	var unknown *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has the port, perhaps another topicast: choose another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this host has no such address: choose 127.0.0.1, or leave the address out for all that it has"
	case errors.Is(err, syscall.EACCES):
		return "a port below 1024 takes a privilege (CAP_NET_BIND_SERVICE): choose a higher one"
	case errors.As(err, &unknown):
		return "the name of the host is not known here: write an address"
	}
	return "choose another address or port"
}

// Addr is the address that is really listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until ctx ends, and lets answers under way finish for a second.
func (s *Server) Serve(ctx context.Context) error {
	defer s.live.end() // streams have no end of their own
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			s.http.Close()
		}
	})
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// metrics answers with what the registry gathers, and behind it the metrics of the
// rules, which take no way over the registry.
func (h *handler) metrics(w http.ResponseWriter, r *http.Request) {
	a, err := h.answers.get(r.Context(), "metrics", func(out io.Writer) error {
		families, err := h.registry.Gather()
		if err != nil {
			return err
		}
		for _, f := range families {
			expfmt.MetricFamilyToText(out, f)
		}
		return h.bridge.WriteRules(out)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	a.send(w, r)
}

var errNotReady = errors.New("not ready")

// ready answers with a line for whether it is, and one for each thing that is not as it
// should be: what is degraded does not keep it from being ready.
func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	a, err := h.short.get(r.Context(), "", func(out io.Writer) error { return writeReadiness(out, h.bridge.Readiness()) })
	if a == nil || err != nil && !errors.Is(err, errNotReady) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	a.send(w, r)
}

func writeReadiness(w io.Writer, r bridge.Readiness) (err error) {
	if r.Ready {
		fmt.Fprintln(w, "ready")
	} else {
		err = errNotReady
		fmt.Fprintln(w, err)
	}
	for _, c := range r.Conditions {
		fmt.Fprintln(w, oneLine(c.String()))
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more; /status has the state of each rule\n", r.More)
	}
	return err
}

// oneLine keeps an error of several lines from looking like several conditions.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
