package send

import (
	"topicast/bridge/lastsent"
	"topicast/bridge/session"
)

// For "retained: once": what was sent last for each topic. With a file (lastsent.Store.OnDisk), which must never
// say what the devices may not have any more, it is told of each payload before that is sent. Without one it
// is told that something is on its way, and what it was when that has been sent.

// prepare notes that message i of the batch goes to a target.
func (p *Path) prepare(t *routeTarget, i int32, fingerprint uint64) {
	first := t.flush != p.flushes
	t.prepared, t.flush = i, p.flushes
	switch {
	case t.sent == nil:
	case p.lastSent.OnDisk():
		p.lay(t, fingerprint)
	case first:
		p.lastSent.Begin(t.sent)
	}
}

// prepareQueued notes, between two batches, that what waits already goes to a target.
func (p *Path) prepareQueued(t *routeTarget, fingerprint uint64) {
	t.flush = p.flushes
	if t.sent != nil {
		p.lay(t, fingerprint)
	}
}

// lay notes what goes to a target that asks for it.
func (p *Path) lay(t *routeTarget, fingerprint uint64) {
	if p.lastSent.Lay(t.sent, fingerprint) {
		p.staleEntries = append(p.staleEntries, t.sent)
	}
}

// layLate does for a datagram what prepare has left for when it is known what becomes of it. Of several
// to one target that were sent the last one is enough: most payloads need no fingerprint. One
// that was refused needs none.
func (p *Path) layLate(d *datagram) {
	if d.target.sent == nil || p.lastSent.OnDisk() {
		return
	}
	if d.fingerprint == 0 {
		d.fingerprint = p.fingerprint(d.target.rule, p.batch[d.message].Payload)
	}
	p.lay(d.target, d.fingerprint)
}

// doubt notes of datagrams that they may have left, though they do not count as sent: should they never leave
// again, nobody knows what the devices have.
func doubt(ds []*datagram) {
	for _, d := range ds {
		if d.target.sent != nil {
			d.target.sent.Doubt()
		}
	}
}

// fingerprint is that of a payload which a rule sends.
func (p *Path) fingerprint(r *Rule, payload []byte) uint64 {
	return lastsent.By(r.settings, p.lastSent.Fingerprint(payload))
}

// knows reports whether the payload of a message is that which was sent to a target last, or lies ready for this
// flush. It may be lost yet if it is of QoS 0, and the message not; then it is sent twice.
func (p *Path) knows(t *routeTarget, m *session.Message, fingerprint uint64) bool {
	switch {
	case t.sent == nil || fingerprint == 0:
		return false
	case t.flush == p.flushes:
		ready := &p.batch[t.prepared]
		return (ready.QoS > 0 || m.QoS == 0) && p.fingerprint(t.rule, ready.Payload) == fingerprint
	}
	return t.sent.Was(fingerprint)
}

// forgetStale has what is prepared noted on disk before it leaves.
func (p *Path) forgetStale() {
	if len(p.staleEntries) > 0 {
		p.lastSent.Forget(p.staleEntries)
		clear(p.staleEntries)
		p.staleEntries = p.staleEntries[:0]
	}
}
