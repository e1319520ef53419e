package web

import (
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"topicast/bridge"
)

// Bridge is what the pages show; *bridge.Bridge is one.
type Bridge interface {
	prometheus.Collector
	WriteRules(io.Writer) error // the metrics that the Collector leaves out, as text
	Status() bridge.Status
	Waiting() []string
}

// Handler answers
//
//	/         the status page, for people
//	/status   the same as JSON
//	/metrics  the counters, for Prometheus, with those of the Go runtime and the process
//	/healthz  200 while the process lives
//	/readyz   200 when messages can flow; else 503 and what is missing, a line each
//
// to GET and HEAD. Nothing can be changed through it.
func Handler(b Bridge) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(b, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { page(w, b.Status()) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { status(w, b.Status()) })
	mux.Handle("GET /metrics", metrics(registry, b))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, b.Waiting()) })
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
		return nil, fmt.Errorf("web.listen: %w; another topicast may run here: choose another port, or \"\" for no status page", err)
	}
	return &Server{listener: l, http: http.Server{
		Handler: Handler(b),
		// A client that dawdles must not hold a connection for ever.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}}, nil
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

// metrics writes what the registry gathers, and behind it the metrics of the
// rules, which take no way over the registry. There may be 100,000 of those, so
// the page is compressed for whom asks for that, as Prometheus does.
func metrics(registry *prometheus.Registry, b Bridge) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		families, err := registry.Gather()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
		out := io.Writer(w)
		if takesGzip(r) {
			w.Header().Set("Content-Encoding", "gzip")
			z := compressors.Get().(*gzip.Writer)
			defer compressors.Put(z)
			z.Reset(w)
			defer z.Close()
			out = z
		}
		for _, f := range families {
			expfmt.MetricFamilyToText(out, f)
		}
		b.WriteRules(out)
	}
}

// takesGzip tells whether who asks can read gzip (RFC 9110 12.5.3).
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

func status(w http.ResponseWriter, s bridge.Status) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	e.Encode(s)
}

func ready(w http.ResponseWriter, waiting []string) {
	if len(waiting) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, strings.Join(waiting, "\n"))
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":     ago,
	"bytes":   bytes[int64],
	"size":    bytes[int],
	"few":     few,
	"send":    sendRules,
	"receive": receiveRules,
}).Parse(pageText))

// maxRows is how many rules the page shows: a browser is not made for a table of
// 100,000. Rules in trouble come first; /status has them all.
const maxRows = 500

func page(w http.ResponseWriter, s bridge.Status) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The page has one style sheet and no script, and says so, so that a topic
	// or an error text can never become one.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Cache-Control", "no-store")
	pageTemplate.Execute(w, s)
}

// shown is what the page shows of some rules, and how many more there are.
type shown[T any] struct {
	Rows []T
	More int
}

func sendRules(s bridge.Status) shown[bridge.RuleStatus] {
	return show(s.Rules, func(r bridge.RuleStatus) bool { return r.State == bridge.StateUp })
}

func receiveRules(s bridge.Status) shown[bridge.ReceiveStatus] {
	return show(s.Receive, func(r bridge.ReceiveStatus) bool { return r.State == bridge.StateUp })
}

// show puts rules in trouble first.
func show[T any](rules []T, up func(T) bool) shown[T] {
	var well, ill []T
	for _, r := range rules {
		if up(r) {
			well = append(well, r)
		} else {
			ill = append(ill, r)
		}
	}
	all := append(ill, well...)
	n := min(len(all), maxRows)
	return shown[T]{all[:n], len(all) - n}
}

// few are the first of a long list.
func few(all []string) []string {
	const most = 8
	if len(all) <= most {
		return all
	}
	return append(slices.Clone(all[:most]), fmt.Sprintf("and %d more", len(all)-most))
}

// ago says how long ago in the two largest units: a person reads 3d4h, not 76h12m3s.
func ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := time.Since(t).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

func bytes[N int | int64](n N) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
