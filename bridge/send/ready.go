package send

import (
	"fmt"
	"net/netip"
	"time"
)

// What a datagram waits for though its source is there and the kernel takes datagrams. All of it is
// asked here, just before a datagram leaves: one that has come just now (path.go), that waits in
// memory (drain.go) or on disk (spool.go), or that is sent again (keep.go). One more thing to wait
// for is one more obstacle, found by ready and worded by whyWaiting; a rule that it applies to is paced.

// obstacle is what keeps a datagram from leaving.
type obstacle uint8

const (
	noObstacle      obstacle = iota
	periodObstacle           // the last datagram to its target left less than a period of the rule's rate ago (pace.go)
	requestObstacle          // a request with its key is outstanding, or there is no memory for one more (answers.go)
	hostObstacle             // its host is not reachable, or being resolved (hosts.go)
)

// leaving is a datagram that is about to leave.
type leaving struct {
	rule    *Rule
	host    *host // nil: its target has no state
	topic   string
	to      netip.AddrPort
	payload []byte
	waits   bool // it can wait for its host
	reply   *reply
}

// paced reports whether datagrams of the rule wait for a time of their own: then all of them go
// through the queue, where each target has a queue (pace.go).
func (r *Rule) paced() bool { return !r.Rate.IsZero() || r.ExpectsAnswers() }

// ready returns what keeps a datagram from leaving, and until when, as far as that is known. With no
// obstacle it has to be given to the kernel: that counts for its host. Callers hold mu, and there is a
// socket.
func (b *binding) ready(d *leaving, now time.Time) (obstacle, time.Time) {
	if d.rule.paced() {
		if at := b.queue.pacing.periodEnds(d.rule, d.to, now); at.After(now) {
			return periodObstacle, at
		}
		if d.rule.ExpectsAnswers() {
			if at := b.requestAllowedAt(d, now); !at.IsZero() {
				return requestObstacle, at
			}
		}
	}
	if !b.maySend(d.host, len(d.payload), d.waits, now) {
		return hostObstacle, laterOf(now.Add(firstCheck), d.host.nextCheck)
	}
	d.host.sends(d.to.Port())
	return noObstacle, time.Time{}
}

// whyWaiting says what a queue is seen to wait for, as the end of "it waits, as"; "": for nothing that
// ready knows. Callers hold mu, and there is a socket.
func (b *binding) whyWaiting(l *ruleQueue) string {
	r, w := l.rule, l.first
	switch {
	case !l.host.reachable():
		return fmt.Sprintf("host %s does not answer", l.host.addr)
	case r.ExpectsAnswers() && b.requests.byKey[w.requestKey()] != nil:
		return fmt.Sprintf("what was sent to %s before has no answer yet", w.to)
	case !r.Rate.IsZero():
		return "its target gets no more than " + r.Rate.String()
	}
	return ""
}
