package web

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"topicast/bridge"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// Bridge is what the pages show; *bridge.Bridge is one.
type Bridge interface {
	prometheus.Collector
	WriteRules(io.Writer) error // the metrics that the Collector leaves out, as text
	Snapshot(bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status])
	Readiness() bridge.Readiness
}

// Handler answers
//
//	/         the status page, for people
//	/status   the same as JSON; ?match=, state=, sort= and limit= narrow it to some rules
//	/metrics  the counters, for Prometheus, with those of the Go runtime and the process
//	/healthz  200 while the process lives
//	/readyz   200 when messages can flow, else 503; then what is pending or degraded, a line each
//
// to GET and HEAD. Nothing can be changed through it.
func Handler(b Bridge) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(b, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { status(w, r, b) })
	mux.Handle("GET /metrics", metrics(registry, b))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, b.Readiness()) })
	return mux
}

// Server listens for requests.
type Server struct {
	listener net.Listener
	http     http.Server
}

// Listen opens the address, so that a port already taken is known at the start.
func Listen(address string, b Bridge) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("web.listen: %w; %s, or \"\" for no status page", err, instead(err))
	}
	return &Server{listener: l, http: http.Server{
		Handler: Handler(b),
		// A client that dawdles must not hold a connection for ever.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}}, nil
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

// compressors are kept, as each takes a megabyte.
var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that is none
	return z
}}

// compressed is where an answer is written to: compressed for whom asks for that, as
// browsers and Prometheus do. close ends it.
func compressed(w http.ResponseWriter, r *http.Request) (out io.Writer, close func()) {
	w.Header().Add("Vary", "Accept-Encoding")
	if !takesGzip(r) {
		return w, func() {}
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := compressors.Get().(*gzip.Writer)
	z.Reset(w)
	return z, func() {
		z.Close()
		compressors.Put(z)
	}
}

// metrics writes what the registry gathers, and behind it the metrics of the
// rules, which take no way over the registry.
func metrics(registry *prometheus.Registry, b Bridge) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		families, err := registry.Gather()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
		out, end := compressed(w, r)
		defer end()
		for _, f := range families {
			expfmt.MetricFamilyToText(out, f)
		}
		b.WriteRules(out)
	}
}

// takesGzip reports whether who asks can read gzip (RFC 9110 12.5.3).
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, weighed := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
		return !weighed || err == nil && q > 0
	}
	return false
}

// ready answers with a line for whether it is, and one for each thing that is not as it
// should be: what is degraded does not keep it from being ready.
func ready(w http.ResponseWriter, r bridge.Readiness) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.Ready {
		fmt.Fprintln(w, "ready")
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready")
	}
	for _, c := range r.Conditions {
		fmt.Fprintln(w, oneLine(c.String()))
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more; /status has the state of each rule\n", r.More)
	}
}

// oneLine keeps an error of several lines from looking like several conditions.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
