package spill

// SetMaxLatest sets how many topics' latest may be known.
func (s *Queues) SetMaxLatest(n int) { s.most = n }

// Shared is how many bytes are taken of what is for whoever comes first.
func (s *Spool) Shared() int64 { return s.shared.Load() }
