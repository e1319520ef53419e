//go:build !linux

package multicast

// Idle is false: these systems do not tell.
func (s *Sender) Idle() bool { return false }
