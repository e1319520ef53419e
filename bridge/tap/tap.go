package tap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Tap is where events are told, and watched. With nobody watching, to ask On is all that
// the way of a message pays for it: one atomic load. A watcher that is slow misses events;
// it delays neither messages nor other watchers. The zero Tap is ready, and a nil one tells
// nobody.
type Tap struct {
	watchers atomic.Pointer[[]*Watcher] // nil: none
	numbers  atomic.Uint64              // of datagrams, so far

	mu sync.Mutex // one change of watchers at a time
}

const (
	// MaxWatchers is how many there may be at a time.
	MaxWatchers = 4

	// maxEvents is how many events wait for a watcher, and maxKept how many bytes of their
	// topics, details and payloads; what comes then is missed. The watcher takes them once in Period: so nothing
	// is missed of 200,000 events a second, as long as it takes them in time.
	maxEvents = 4096
	maxKept   = 1 << 20

	// Period is how often a watcher looks. Who tells wakes nobody.
	Period = 20 * time.Millisecond
)

// ErrFull is that there are MaxWatchers already.
var ErrFull = errors.New("4 are watching already (topicast tap, topicast record and the live feed of the status page count alike), and there is no room for more; end one of them")

// Filter is what a watcher asks for. The zero Filter is everything, without payloads.
type Filter struct {
	Topic   func(topic string) bool // nil: any, also where none is known
	To      netip.AddrPort          // group or host; port 0: any port; zero: any
	Rule    string                  // its name; of a rule with several interfaces also that in the configuration, for all of them
	Lost    bool                    // only what goes no further: dropped or filtered
	Payload int                     // how many bytes of each payload
	Heard   bool                    // also that a datagram has come; whether Topic and Lost take it is not known yet then. What is decided about it comes without the payload
	Text    string                  // that is in the rule, topic, addresses, interface, reason or detail; the case of ASCII does not matter
	Most    int                     // events that it wants in a Period, others are missed; 0: as many as there is room for
}

func (f *Filter) takes(e *Event) bool {
	heard := e.Decision == Heard
	switch {
	case heard && !f.Heard:
		return false
	case f.Lost && !heard && !e.Decision.lost():
		return false
	case f.Rule != "" && f.Rule != e.Rule && (!strings.HasPrefix(e.Rule, f.Rule) || e.Rule[len(f.Rule)] != '@'):
		return false
	case f.To.Addr().IsValid() && (f.To.Addr() != e.To.Addr() || f.To.Port() != 0 && f.To.Port() != e.To.Port()):
		return false
	}
	return (f.Topic == nil || heard || e.Topic != "" && f.Topic(e.Topic) || e.AnswerTopic != "" && f.Topic(e.AnswerTopic)) && (f.Text == "" || heard || e.mentions(f.Text))
}

// On reports whether anybody watches.
func (t *Tap) On() bool { return t != nil && t.watchers.Load() != nil }

// Number is for the events of one datagram, which is another than all before; 0: nobody watches.
func (t *Tap) Number() uint64 {
	if !t.On() {
		return 0
	}
	return t.numbers.Add(1)
}

// Tell tells those who watch. It keeps nothing of the payload, and waits for nobody.
func (t *Tap) Tell(e Event) {
	if t == nil {
		return
	}
	if all := t.watchers.Load(); all != nil {
		for _, w := range *all {
			if w.filter.takes(&e) {
				w.put(&e)
			}
		}
	}
}

// A Watcher is told of events. One goroutine may use it.
type Watcher struct {
	filter Filter
	of     *Tap

	mu     sync.Mutex
	events []Event
	kept   []byte // their payloads
	bytes  int    // of what maxKept is about
	missed uint64

	before     []Event // that Next returned last, whose memory it uses again
	keptBefore []byte
}

// Watch adds a watcher. Close ends it.
func (t *Tap) Watch(f Filter) (*Watcher, error) {
	if f.Most == 0 || f.Most > maxEvents {
		f.Most = maxEvents
	}
	w := &Watcher{filter: f, of: t}
	return w, t.change(func(all []*Watcher) ([]*Watcher, error) {
		if len(all) >= MaxWatchers {
			return nil, ErrFull
		}
		return append(all, w), nil
	})
}

// Close ends the watching.
func (w *Watcher) Close() {
	_ = w.of.change(func(all []*Watcher) ([]*Watcher, error) {
		return slices.DeleteFunc(all, func(other *Watcher) bool { return other == w }), nil
	})
}

// change replaces the list of watchers, which nobody changes while it is in use.
func (t *Tap) change(f func([]*Watcher) ([]*Watcher, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Watcher
	if was := t.watchers.Load(); was != nil {
		all = slices.Clone(*was)
	}
	all, err := f(all)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		t.watchers.Store(nil)
	default:
		t.watchers.Store(&all)
	}
	return nil
}

// put keeps an event until the watcher takes it, if there is room.
func (w *Watcher) put(e *Event) {
	payload := e.Payload[:min(len(e.Payload), w.filter.Payload)]
	if w.filter.Heard && e.Datagram > 0 && e.Decision != Heard {
		payload = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	bytes := len(payload) + len(e.Topic) + len(e.AnswerTopic) + len(e.Detail)
	if len(w.events) >= w.filter.Most || w.bytes+bytes > maxKept {
		w.missed++
		return
	}
	w.bytes += bytes
	w.events = append(w.events, *e)
	last := &w.events[len(w.events)-1]
	last.Payload = nil
	if len(payload) > 0 {
		from := len(w.kept)
		w.kept = append(w.kept, payload...)
		last.Payload = w.kept[from:len(w.kept):len(w.kept)]
	}
}

// Next waits for events, at most for Period, and returns them, the oldest first, and how
// many more there were after them that it has missed. They are good until the next call. The
// error is that of ctx.
func (w *Watcher) Next(ctx context.Context) (events []Event, missed uint64, err error) {
	wait := time.NewTimer(Period)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		err = ctx.Err() // what there is comes all the same
	}
	clear(w.before) // keeps no topic alive
	w.mu.Lock()
	defer w.mu.Unlock()
	events, missed = w.events, w.missed
	w.before, w.events, w.missed = w.events, w.before[:0], 0
	w.keptBefore, w.kept, w.bytes = w.kept, w.keptBefore[:0], 0
	return events, missed, err
}
