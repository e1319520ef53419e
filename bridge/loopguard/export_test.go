package loopguard

// MaxPeers bounds each half of the peers.
const MaxPeers = maxPeers

// Remembered is how many verdicts there are.
func (b *Breaker) Remembered() int { return len(b.verdicts) }
