package send

import "time"

// What a binding's socket tells only when it is asked.

// inspectAtOnce bounds how many sockets are asked in one second.
const inspectAtOnce = 256

// Inspect asks the sockets of some bindings: the next ones in their order.
func (p *Path) Inspect() {
	bindings := p.working.Load().bindings
	for range min(len(bindings), inspectAtOnce) {
		if p.inspected >= len(bindings) {
			p.inspected = 0
		}
		bindings[p.inspected].inspect()
		p.inspected++
	}
}

func (b *binding) inspect() {
	if !b.mu.TryLock() {
		return // it is sending: the next time
	}
	s := b.socket
	if s != nil {
		b.countUnclaimed()
		b.noteSegments()
		if b.want.Host {
			b.noteHostErrors(time.Now())
		}
	}
	b.mu.Unlock()
	if s != nil && b.want.SourcePort != 0 {
		// Without mu, since it reads a table of the kernel; of a socket that is closed
		// meanwhile it fails.
		if err := s.SharePort(); err != nil {
			b.log.Debug("cannot tell whether another program has the source port", "source", s.LocalAddr(), "err", err)
		}
	}
}

// countUnclaimed counts what has come to the socket's port: answers that no rule
// takes. It logs the first. Callers hold mu, and there is a socket.
func (b *binding) countUnclaimed() {
	n, err := b.socket.Unclaimed()
	if err != nil || n == b.answered {
		return
	}
	first, more := b.unclaimed == 0, uint64(uint32(n-b.answered)) // the kernel counts up to 2³²
	if b.want.Answers != "" {
		b.answered = n
		b.countUnread(more)
		return
	}
	b.show(func() { b.unclaimed += more })
	b.answered = n
	if first {
		b.log.Warn("datagrams come to the port that a rule sends from, and no rule takes them; further ones are only counted. "+
			"Are they answers? The key answer publishes them; a receive rule takes what devices send to a group",
			"interface", b.source.Interface, "source", b.socket.LocalAddr(), "rules", b.rules, "datagrams", n)
	}
}

// noteSegments logs, once, that the kernel is given datagrams one by one where they
// could leave in runs, or no longer is. It costs nothing but processor time. Callers
// hold mu.
func (b *binding) noteSegments() {
	why := ""
	if err := b.socket.SegmentationError(); err != nil {
		why = err.Error()
	}
	if why == b.unsegmented {
		return
	}
	b.show(func() { b.unsegmented = why })
	if why == "" {
		b.log.Info("datagrams leave in segmented sends again", "interface", b.source.Interface, "source", b.socket.LocalAddr())
		return
	}
	b.log.Warn("datagrams are given to the kernel one by one: none is lost for it, but bursts of datagrams of one size to one group take more of the processor",
		"interface", b.source.Interface, "source", b.socket.LocalAddr(), "err", why)
}
