package spill

// SetMaxLatest sets how many topics' latest may be known.
func (s *Queues) SetMaxLatest(n int) { s.most = n }
