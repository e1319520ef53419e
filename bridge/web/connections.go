package web

import (
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxConnections is how many there may be at a time, or less: each takes a file descriptor
	// of those that sockets of rules leave (Options.Descriptors), and some memory.
	maxConnections = 32

	// maxBusy is how long an answer may take before another connection may have its place.
	maxBusy = 5 * time.Second

	// writePatience is how long who reads an answer may read nothing of it, and maxAnswer how
	// long all of it may take.
	writePatience = 10 * time.Second
	maxAnswer     = 2 * time.Minute

	writePiece = 64 << 10 // bytes that are to be read within writePatience
)

// connections is a listener that has no more than most open. A new one takes the
// place of the one that has been idle for longest, or is busy for too long; first of one from
// where most are. So whoever opens them by the thousand displaces his own, and a health
// check from elsewhere has its answer.
type connections struct {
	net.Listener
	most   int
	freed  chan struct{} // one has gone, or is idle
	closed chan struct{}
	close  sync.Once

	mu  sync.Mutex
	all map[*connection]bool
}

// connection is one of them; mu of the listener guards what it does.
type connection struct {
	net.Conn
	of      *connections
	from    string    // the address of the other side
	busy    bool      // an answer is being written
	endless bool      // it has no end, and may take longer than maxAnswer
	since   time.Time // it is, or is not
}

func newConnections(l net.Listener, most int) *connections {
	return &connections{Listener: l, most: most, freed: make(chan struct{}, 1), closed: make(chan struct{}), all: make(map[*connection]bool)}
}

// Accept waits for a connection, and for a place for it.
func (l *connections) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	endWhenGone(accepted)
	c := &connection{Conn: accepted, of: l, from: accepted.RemoteAddr().String()}
	if host, _, err := net.SplitHostPort(c.from); err == nil {
		c.from = host
	}
	for !l.admit(c) {
		select {
		case <-l.freed:
		case <-time.After(time.Second): // one may be busy for too long by now
		case <-l.closed:
			accepted.Close()
			return nil, net.ErrClosed
		}
	}
	return c, nil
}

func (l *connections) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// admit reports whether there is a place for a connection. If there is none it ends another
// one, if it can.
func (l *connections) admit(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.all) >= l.most {
		last := l.leastInUse(now, c.from)
		if last == nil {
			return false
		}
		delete(l.all, last)
		last.Conn.Close()
	}
	c.since = now
	l.all[c] = true
	return true
}

// leastInUse is the connection that has asked for nothing for longest, else the one whose
// answer has taken longest, if that is too long: of those from where most are, else of all.
// Where a new one comes from there it takes no other's place, but waits. Callers hold mu.
func (l *connections) leastInUse(now time.Time, newcomer string) (last *connection) {
	count, most := make(map[string]int), 0
	for c := range l.all {
		count[c.from]++
		most = max(most, count[c.from])
	}
	crowded := func(c *connection) bool {
		if count[newcomer] == most {
			return c.from == newcomer
		}
		return count[c.from] == most
	}
	goesBefore := func(c, other *connection) bool {
		switch {
		case crowded(c) != crowded(other):
			return crowded(c)
		case c.busy != other.busy:
			return !c.busy
		}
		return c.since.Before(other.since)
	}
	for c := range l.all {
		if c.busy && now.Sub(c.since) < maxBusy || count[newcomer] == most && c.from != newcomer {
			continue
		}
		if last == nil || goesBefore(c, last) {
			last = c
		}
	}
	return last
}

// changed is the server's ConnState.
func (l *connections) changed(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*connection)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive, http.StateIdle:
		c.busy, c.since, c.endless = state == http.StateActive, time.Now(), false
	case http.StateClosed, http.StateHijacked:
		delete(l.all, c)
	}
	if !c.busy {
		select {
		case l.freed <- struct{}{}:
		default:
		}
	}
}

// goesOn is called when an answer has begun that has no end.
func (c *connection) goesOn() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.endless = true
}

// Write gives up where the other side reads nothing, or takes too long for all of it.
func (c *connection) Write(p []byte) (n int, err error) {
	c.of.mu.Lock()
	end, endless := c.since.Add(maxAnswer), c.endless
	c.of.mu.Unlock()
	for err == nil && n < len(p) {
		deadline := time.Now().Add(writePatience)
		if !endless && deadline.After(end) {
			deadline = end
		}
		c.Conn.SetWriteDeadline(deadline)
		var written int
		written, err = c.Conn.Write(p[n:min(len(p), n+writePiece)])
		n += written
	}
	return n, err
}
