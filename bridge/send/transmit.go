package send

import "topicast/bridge/multicast"

// transmit is the one way out: every datagram, whether it is fresh, queued or spooled,
// leaves by it. It sends as Sender.SendChecked does: the first n are disposed of, and failed is
// called for those of them that can never leave. r is what is known of the datagram in
// front of the queue that these are of; nil: they wait in none. Callers hold mu, and there
// is a socket.
//
// Where something of it is to be acknowledged, it then asks whether the interface has kept
// its carrier: without, the kernel takes datagrams and loses them, and reports it only
// later. If it has not, nothing counts as sent, though some may have left: those leave
// twice, which at least once allows. How many those are is in doubtful, for who drops them instead. What
// failed was called with then does not hold for what is tried again.
func (b *binding) transmit(check *multicast.AddressCheck, out []multicast.Datagram, acknowledged bool, r *refusal, failed func(i int, err error)) (n int, err error) {
	b.failures, b.onFailure, b.doubtful = 0, failed, 0
	if len(b.counters.toSend) > 0 {
		b.counters.put(out)
	} else if len(b.counters.sent) > 0 {
		b.counters.sent = b.counters.sent[:0]
	}
	n, err = b.socket.SendChecked(check, out, b.failed)
	b.onFailure = nil
	if len(b.counters.toSend) > 0 {
		b.counters.takeBack(out, n)
	}
	if n > 0 && acknowledged {
		if lost := b.socket.Carrier(); lost != nil {
			b.doubtful = n
			n, err = 0, lost
		}
		if check != nil {
			*check = multicast.AddressCheck{} // the kernel may have had to be waited for
		}
	}
	left := n - min(b.failures, n)
	if n > 0 && r != nil {
		*r = refusal{}
	}
	if left > 0 {
		b.departed()
	}
	if left == n {
		b.forgetLength(out[:n])
	}
	if n == 0 && err != nil {
		b.notTaken(err)
	}
	return n, err
}

// countFailure is called by Sender.Send for a datagram that can never leave.
func (b *binding) countFailure(i int, err error) {
	b.failures++
	b.onFailure(i, err)
}

// logSent logs each of the first n datagrams of a binding, for log.level debug.
func (p *Path) logSent(b *binding, n int) {
	for i, d := range p.meta[:n] {
		if !d.dropped {
			p.log.Debug("sent", "rule", d.target.rule.Name, "topic", d.target.route.topic, d.target.rule.To().Kind(), p.out[i].To,
				"source", b.socket.LocalAddr(), "interface", b.source.Interface, "bytes", len(d.payload))
		}
	}
}

// countTaken counts datagrams the kernel took, a run of one rule at a time.
func (p *Path) countTaken(ds []*datagram) (taken int) {
	for i := 0; i < len(ds); {
		rule, n, bytes := ds[i].target.rule, 0, 0
		for ; i < len(ds) && ds[i].target.rule == rule; i++ {
			d := ds[i]
			if d.dropped {
				continue
			}
			n++
			bytes += len(d.payload)
			if i+1 == len(ds) || ds[i+1].target != d.target || ds[i+1].dropped {
				p.layLate(d)
				d.target.took(d.fingerprint) // of several, the last is the one that the devices have
			}
		}
		if n > 0 {
			rule.took(n, bytes, p.at)
		}
		taken += n
	}
	return taken
}
