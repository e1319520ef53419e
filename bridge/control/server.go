package control

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/tap"
)

// Options say what a socket gives access to.
type Options struct {
	Path   string       // of the socket
	Status http.Handler // answers GET /status, /readyz, /healthz and /metrics, as the web pages do
	Bridge Bridge
	Tap    *tap.Tap
	Logger *slog.Logger // nil: none
}

// Bridge is what can be directed.
type Bridge interface {
	// Known is an error where there is no rule of a name, which says what was probably meant.
	Known(name string) error
	// Rejoin has the receive rules of a name leave their groups and join them again, soon, and
	// returns the rules.
	Rejoin(name string) (rules []string, err error)

	// Disable switches the rules of a name off, Enable switches them on again; they return the
	// rules. by is who asks.
	Disable(name, by string) (rules []string, err error)
	Enable(name, by string) (rules []string, err error)

	// Flush discards what waits for the rules of a name, or for all, and returns what that was.
	Flush(name string, all bool, by string) ([]account.Flushed, error)
}

const (
	// maxConnections is how many there may be at a time. Others wait to be accepted.
	maxConnections = 16

	// writePatience is how long who reads an answer may read nothing of it.
	writePatience = 10 * time.Second

	maxHeader = 16 << 10 // bytes of the headers of a request
)

// Server is a control socket.
type Server struct {
	socket *socket
	http   http.Server
	places chan struct{} // as many as there may be connections
	ctx    context.Context
	end    context.CancelFunc
}

// Listen opens the socket. Serve answers, and closes it.
func Listen(o Options) (*Server, error) {
	l, err := listen(o.Path)
	if err != nil {
		return nil, err
	}
	s := &Server{socket: l, places: make(chan struct{}, maxConnections)}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.http = http.Server{
		Handler:           handler(o),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, asker{}, askerOf(c))
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				<-s.places
			}
		},
	}
	s.http.SetKeepAlivesEnabled(false) // none is idle
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s.http.ErrorLog = log.New(errorLog{o.Logger}, "", 0)
	return s, nil
}

// Serve answers until ctx ends, or Close is called, and lets answers under way finish for a second.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.Close)()
	err := s.http.Serve(bounded{s.socket, s.places, s.ctx.Done()})
	s.socket.Close()
	if errors.Is(err, http.ErrServerClosed) || s.ctx.Err() != nil {
		return nil
	}
	return err
}

// Close ends what is watched, lets other answers finish for a second, and removes the socket.
func (s *Server) Close() {
	s.end()
	s.socket.Close()
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(grace) != nil {
		s.http.Close()
	}
}

// bounded is a listener that accepts what there is a place for.
type bounded struct {
	net.Listener
	places chan struct{}
	ended  <-chan struct{}
}

func (l bounded) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.ended:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return patient{c}, nil
}

// patient is a connection to which a write takes no longer than writePatience.
type patient struct{ net.Conn }

func (c patient) Write(p []byte) (n int, err error) {
	const piece = 64 << 10 // is to be read in that time
	for err == nil && n < len(p) {
		c.SetWriteDeadline(time.Now().Add(writePatience))
		var written int
		written, err = c.Conn.Write(p[n:min(len(p), n+piece)])
		n += written
	}
	return n, err
}

// errorLog is where the server of net/http tells of what it cannot do.
type errorLog struct{ *slog.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	l.Warn("control socket", "err", strings.TrimSpace(string(line)))
	return len(line), nil
}
