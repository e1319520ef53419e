//go:build !linux

package multicast

// Carrier returns nil: only Linux is asked. Elsewhere what was given to the kernel
// in the moment between the loss of the carrier and Watch telling of it is lost.
func (s *Sender) Carrier() error { return nil }

type wire struct{}

func (*wire) open(int) {}
func (*wire) close()   {}
