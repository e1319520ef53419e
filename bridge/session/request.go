package session

import (
	"context"
	"sync"
)

// requests are the SUBSCRIBEs and UNSUBSCRIBEs of a connection that have no answer
// yet. One that was given up stays among them: its answer may only be late.
type requests struct {
	mu   sync.Mutex
	open map[uint16]*request // by packet identifier
	last uint16              // the identifier that was given out last
}

// A request is a SUBSCRIBE or an UNSUBSCRIBE.
type request struct {
	filters int         // of a SUBSCRIBE: as many return codes does its answer have; 0: an UNSUBSCRIBE
	answer  chan subAck // has room for it
}

// add makes a request, under an identifier that no other one has.
func (r *requests) add(filters int) (uint16, *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[uint16]*request)
	}
	for r.last = r.last%requestIDs + 1; r.open[r.last] != nil && len(r.open) < requestIDs; {
		r.last = r.last%requestIDs + 1
	}
	q := &request{filters: filters, answer: make(chan subAck, 1)}
	r.open[r.last] = q
	return r.last, q
}

// filters is how many filters the SUBSCRIBE has that an answer is for; 0: there is none.
func (r *requests) filters(id uint16) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.open[id]; q != nil {
		return q.filters
	}
	return 0
}

// unsubscribed ends an UNSUBSCRIBE; it is false if there is none.
func (r *requests) unsubscribed(a subAck) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.open[a.id]
	if q == nil || q.filters > 0 {
		return false
	}
	q.answer <- a
	delete(r.open, a.id)
	return true
}

// answered ends a request.
func (r *requests) answered(a subAck) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.open[a.id]; q != nil {
		q.answer <- a
		delete(r.open, a.id)
	}
}

// withdraw takes back a request that was not written.
func (r *requests) withdraw(id uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, id)
}

// request writes a SUBSCRIBE or UNSUBSCRIBE and waits for its answer.
func (c *mqttConn) request(ctx context.Context, filters int, encode func(id uint16) []byte) (answer subAck, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, subackTimeout, errNoAnswer(subackTimeout))
	defer cancel()
	id, q := c.requests.add(filters)
	if err := c.writeFrame(encode(id), ctx.Done()); err != nil {
		c.requests.withdraw(id)
		return subAck{}, err
	}
	return await(ctx, c, q.answer)
}

// await waits for an answer of the broker. One that came before the connection ended
// counts.
func await[T any](ctx context.Context, c *mqttConn, answer <-chan T) (v T, err error) {
	select {
	case v = <-answer:
		return v, nil
	case <-c.done:
		err = c.cause
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	select {
	case v = <-answer:
		return v, nil
	default:
		return v, err
	}
}
