package session

import (
	"fmt"
	"time"
)

// A broker may live, answer PINGREQ, and acknowledge no publication, or lose an
// acknowledgement. Those behind it leave until the window is full, and then none does. On a
// new connection what was not acknowledged is published again [MQTT-4.4.0-1], which mends the
// one and perhaps the other. So it is looked whether the oldest publication that was written
// makes progress. The goroutine of Run looks, so that it costs the messages nothing.
const (
	// ackLook is how often it is looked, and ackPatience after how many looks without
	// progress a new connection is made: 60 to 75 s after it was written. They double each
	// time that brought none, up to maxAckPatience: half an hour.
	ackLook        = 15 * time.Second
	ackPatience    = 4
	maxAckPatience = 120
)

// ackWatch is of the goroutine of Run.
type ackWatch struct {
	oldest   [2]progress // of each flow
	looks    int         // without progress, on this connection
	patience int         // 0: ackPatience
	since    time.Time   // the first look without, over connections; zero: there was progress
}

// progress is how far the oldest publication of a flow has come.
type progress struct {
	head  uint64
	state state
	wrote bool // on this connection
}

// begin is the begin of a connection.
func (w *ackWatch) begin() { w.looks = 0 }

// look looks for progress. It returns an error when a new connection is due.
func (w *ackWatch) look(o *outbox, now time.Time) error {
	was := w.oldest
	w.oldest = o.oldest()
	if w.oldest[0] == was[0] && was[0].wrote || w.oldest[1] == was[1] && was[1].wrote {
		w.looks++
		if w.since.IsZero() {
			w.since = now.Add(-ackLook)
		}
	} else {
		w.looks = 0
		if w.oldest[0].head != was[0].head || w.oldest[1].head != was[1].head {
			w.since, w.patience = time.Time{}, 0
		}
	}
	if patience := max(w.patience, ackPatience); w.looks >= patience {
		w.looks, w.patience = 0, min(2*patience, maxAckPatience)
		return fmt.Errorf("the broker acknowledges no messages, though it answers otherwise: %d are on their way, and the oldest has waited for %v; its log may say why",
			o.outstanding.Load(), now.Sub(w.since).Round(time.Second))
	}
	return nil
}

// oldest is how far the oldest publication of each flow has come.
func (o *outbox) oldest() (p [2]progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.flows {
		f := &o.flows[i]
		p[i].head = f.head
		if p[i].wrote = f.head < f.next && f.at(f.head).state != deferred; p[i].wrote {
			p[i].state = f.at(f.head).state
		}
	}
	return p
}
