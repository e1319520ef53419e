package web

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"topicast/bridge"
)

const (
	// samplePeriod is how often open pages are told what has changed, and the graphs go on.
	samplePeriod = 2 * time.Second

	// keepGraphs is how long they go on after the last page was closed: who loads it anew finds them.
	keepGraphs = 10 * time.Minute

	// maxStreams is how many pages may be open and live at a time. Others ask for /status now and
	// then. They leave connections to metrics and health checks.
	maxStreams = 8

	// maxRows is how many rules a page may have, and rows how many it has unless it asks for more.
	maxRows = 1000
	rows    = 100
)

// live tells open pages what changes. It looks only while there are any: with none, and none lately,
// it does nothing and has nothing.
type live struct {
	bridge Bridge
	log    *slog.Logger
	most   int // pages
	ended  chan struct{}
	end    func()
	wake   chan struct{} // there is a page more

	mu      sync.Mutex
	views   map[bridge.Query]*view
	viewers int
	running bool

	past *past // of run; nil while it does not
}

// A viewer is a page that is open.
type viewer struct {
	of   *view
	line chan []byte // what it is to be told next

	// It knows nothing yet, or has missed something, as it reads too slowly: it is told all. Guarded
	// by the mu of live.
	fresh bool
}

func newLive(b Bridge, log *slog.Logger, most int) *live {
	l := &live{bridge: b, log: log, most: most, ended: make(chan struct{}), wake: make(chan struct{}, 1), views: make(map[bridge.Query]*view)}
	l.end = sync.OnceFunc(func() { close(l.ended) })
	return l
}

var errStreams = errors.New("as many pages are live already as there may be; /status has the same")

// events answers with what the page shows, and from then on with what changes: the parameters are
// those of /status.
func (l *live) events(w http.ResponseWriter, r *http.Request) {
	q, err := queryOf(r.URL.Query())
	if err == nil && q.Limit > maxRows {
		err = fmt.Errorf("limit=%d is more than %d", q.Limit, maxRows)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if q.Limit == 0 {
		q.Limit = rows
	}
	v, err := l.join(q)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer l.leave(v)
	s, ok := newStream(w, r)
	for ok {
		select {
		case line, more := <-v.line:
			ok = more && s.send(line) == nil
		case <-r.Context().Done():
			return
		case <-l.ended:
			return
		}
	}
}

// join adds a page, if there is a place for it.
func (l *live) join(q bridge.Query) (*viewer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.viewers >= l.most {
		return nil, errStreams
	}
	l.viewers++
	of := l.views[q]
	if of == nil {
		of = &view{query: q, viewers: make(map[*viewer]bool)}
		l.views[q] = of
	}
	v := &viewer{of: of, line: make(chan []byte, 1), fresh: true}
	of.viewers[v] = true
	if !l.running {
		l.running = true
		if l.past == nil {
			l.past = newPast()
		}
		go l.run()
	}
	select {
	case l.wake <- struct{}{}:
	default: // it looks anyway
	}
	return v, nil
}

func (l *live) leave(v *viewer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.viewers--
	delete(v.of.viewers, v)
	if len(v.of.viewers) == 0 && l.views[v.of.query] == v.of {
		delete(l.views, v.of.query)
	}
}

// run samples and tells until nobody has looked for a while. After each look it does nothing for as
// long as that took, so that it leaves half of a processor whoever opens pages.
func (l *live) run() {
	defer l.broken()
	p, idle := l.past, time.Duration(0)
	p.sample(l.bridge.Counts(), time.Now())
	next := time.NewTicker(samplePeriod)
	defer next.Stop()
	for {
		sampled := false
		select {
		case <-next.C:
			sampled = true
		case <-l.wake:
		case <-l.ended:
			return
		}
		began := time.Now()
		if sampled {
			p.sample(l.bridge.Counts(), time.Now())
		}
		switch watched := l.renew(p, sampled); {
		case watched:
			idle = 0
		case sampled:
			if idle += samplePeriod; idle >= keepGraphs && l.stop() {
				return
			}
		}
		select {
		case <-time.After(time.Since(began)):
		case <-l.ended:
			return
		}
	}
}

// stop ends run, unless somebody looks.
func (l *live) stop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.viewers > 0 {
		return false
	}
	l.running, l.past = false, nil
	return true
}

// broken keeps a fault of a page from ending more than the page, as the server does.
func (l *live) broken() {
	err := recover()
	if err == nil {
		return
	}
	l.log.Error("the status page could not be renewed", "err", err, "stack", string(debug.Stack()))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.past = false, nil
	for q, of := range l.views {
		delete(l.views, q)
		for v := range of.viewers {
			close(v.line)
		}
	}
}

// renew tells pages what has changed; those that have just been opened if no sample was taken.
func (l *live) renew(p *past, sampled bool) (watched bool) {
	l.mu.Lock()
	views := slices.Collect(maps.Values(l.views))
	l.mu.Unlock()
	for _, of := range views {
		if !sampled && !l.hasFresh(of) {
			continue
		}
		change := of.look(l.bridge, p, sampled)
		var all []byte
		if l.hasFresh(of) {
			all = of.all(p)
		}
		l.tell(of, change, all)
	}
	return len(views) > 0
}

func (l *live) hasFresh(of *view) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for v := range of.viewers {
		if v.fresh {
			return true
		}
	}
	return false
}

// tell waits for no client: one that has not read what it was told last is told all when it has. all is nil if
// nobody was to be told that before the look.
func (l *live) tell(of *view, change, all []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for v := range of.viewers {
		line := change
		if v.fresh {
			if line = all; all == nil {
				continue // it has just come, and asks for another look
			}
		}
		select {
		case v.line <- line:
			v.fresh = false
		default:
			v.fresh = true
		}
	}
}
