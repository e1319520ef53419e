package fake

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"topicast/bridge/session"
)

// Publisher takes messages as the session does, and answers as told.
type Publisher struct {
	Mu      sync.Mutex
	took    []string // topic, blank, payload
	Origins []session.Origin
	batches []session.Publication
}

// Batch is message i of those published.
func (p *Publisher) Batch(i int) session.Publication {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return p.batches[i]
}

func (p *Publisher) PublishBatch(batch []session.Publication) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	for _, m := range batch {
		p.took = append(p.took, string(m.Topic)+" "+string(m.Payload))
		p.Origins = append(p.Origins, m.Origin)
		m.Properties = bytes.Clone(m.Properties) // the memory is the caller's
		p.batches = append(p.batches, m)
	}
}

// Published are the messages so far.
func (p *Publisher) Published() []string {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return append([]string(nil), p.took...)
}

// Rescue asks for copies of all that is not acknowledged, as the session does when its
// connection has ended. It says of how many there can be none now.
func (p *Publisher) Rescue() (left int) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	waiting := p.batches[len(p.batches)-len(p.Origins):]
	for i := range p.Origins {
		r, ok := p.Origins[i].(session.Rescuer)
		if !ok {
			continue
		}
		if from, ok := r.Rescue(&waiting[i]); ok {
			p.Origins[i] = from
		} else {
			left++
		}
	}
	return left
}

// Stop tells the origins of what is not acknowledged that the session of b has ended.
func (p *Publisher) Stop() {
	p.Rescue()
	p.Mu.Lock()
	origins := p.Origins
	p.Origins = nil
	p.Mu.Unlock()
	for _, o := range origins {
		o.Lost(1, 1, session.ErrStopped)
	}
}

// Await waits until n messages are published.
func (p *Publisher) Await(t *testing.T, n int) {
	t.Helper()
	WaitFor(t, fmt.Sprint(n, " messages"), func() bool { return len(p.Published()) == n })
}

// AcknowledgeSome acknowledges the oldest, and returns them.
func (p *Publisher) AcknowledgeSome(n int) []string {
	p.Mu.Lock()
	n = min(n, len(p.Origins))
	origins, from := p.Origins[:n], len(p.took)-len(p.Origins)
	p.Origins = p.Origins[n:]
	lines := slices.Clone(p.took[from : from+n])
	p.Mu.Unlock()
	for _, o := range origins {
		o.Published(1, 1)
	}
	return lines
}

// Acknowledge tells the origins of the messages published since it was last called.
func (p *Publisher) Acknowledge() (n int) {
	p.Mu.Lock()
	origins, from := p.Origins, len(p.batches)-len(p.Origins)
	settled := p.batches[from:]
	p.Origins = nil
	p.Mu.Unlock()
	for i, o := range origins {
		o.Published(1, settled[i].Size())
	}
	return len(origins)
}

// Refuse tells the origins of what is not acknowledged that the broker does not take it.
func (p *Publisher) Refuse(why error) {
	p.Mu.Lock()
	origins, from := p.Origins, len(p.batches)-len(p.Origins)
	refused := p.batches[from:]
	p.Origins = nil
	p.Mu.Unlock()
	for i, o := range origins {
		if r, ok := o.(session.Refuser); ok {
			r.Refused(&refused[i], why)
		}
		o.Lost(1, refused[i].Size(), why)
	}
}

// Deliver acknowledges what is published until n messages are.
func (p *Publisher) Deliver(t *testing.T, n int) []string {
	t.Helper()
	WaitFor(t, fmt.Sprint(n, " messages"), func() bool {
		p.Acknowledge()
		return len(p.Published()) >= n
	})
	p.Acknowledge()
	return p.Published()
}
