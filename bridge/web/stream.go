package web

import (
	"context"
	"net"
	"net/http"
	"time"
)

// A stream is an answer without an end, for a page that is open: server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). Who reads nothing of it for
// writePatience is let go.
type stream struct {
	w     http.ResponseWriter
	flush *http.ResponseController
	text  []byte
}

// streamed answers with a stream, or to HEAD with its head alone.
func streamed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			streamHead(w.Header())
			return
		}
		next(w, r)
	}
}

func streamHead(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // nginx would keep it back
}

// newStream begins one; false: the other side has gone.
func newStream(w http.ResponseWriter, r *http.Request) (*stream, bool) {
	streamHead(w.Header())
	s := &stream{w: w, flush: http.NewResponseController(w)}
	// That of the request would end it, as nothing more is read.
	s.flush.SetReadDeadline(time.Time{})
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		c.goesOn()
	}
	return s, s.flush.Flush() == nil
}

// send writes one event: a line of JSON.
func (s *stream) send(line []byte) error {
	s.text = append(append(append(s.text[:0], "data: "...), line...), "\n\n"...)
	if _, err := s.w.Write(s.text); err != nil {
		return err
	}
	if cap(s.text) > 64<<10 {
		s.text = nil // the first is long, those that follow are short
	}
	return s.flush.Flush()
}

// connectionKey is what the context of a request has its connection by.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// ofStranger reports whether a browser asks for the page of another site, which could not read
// the answer, but would take a place. Browsers say so where the page has a secure origin
// (https://www.w3.org/TR/fetch-metadata/), and else name the site.
func ofStranger(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "":
		origin := r.Header.Get("Origin")
		return origin != "" && origin != "http://"+r.Host && origin != "https://"+r.Host
	case "same-origin", "none":
		return false
	}
	return true
}

// own keeps what is for our page alone from others'.
func own(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ofStranger(r) {
			http.Error(w, "this is for the status page of topicast, and not for pages of other sites", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}
