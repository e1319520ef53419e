package bridge

// spoolErr is why the spool cannot be used now. It is nil where there is none.
func (o *Spool) spoolErr() error {
	if o.On != nil {
		return o.On.Err()
	}
	return o.Err
}

// checkSpool is called now and then. When the spool has come into use, what waits in
// memory meanwhile goes there; and it may hold what it did not hold before.
func (b *Bridge) checkSpool() {
	s := b.options.Spool.On
	if s == nil {
		return
	}
	if s.Err() != nil {
		b.send.WakeAll()
		b.receive.WakePump()
		return
	}
	uses := s.Uses()
	if uses == b.spoolUses {
		return
	}
	if !b.lookMu.TryLock() { // so that no other table is put to work meanwhile
		return // a look may take long; the next time
	}
	defer b.lookMu.Unlock()
	b.receive.SpoolIsBack()
	if b.send.SpoolIsBack() { // else once more, the next time
		b.spoolUses = uses
		b.logUnused()
	}
}

// logUnused logs what is on disk that no rule uses.
func (b *Bridge) logUnused() {
	if b.options.Spool.On != nil {
		b.send.LogUnused()
		b.receive.LogUnused()
	}
}

// usesSpool reports whether a rule has messages go to the spool when they cannot go
// on.
func (g *generation) usesSpool() bool { return g.send.UsesSpool() || g.receive.UsesSpool() }
