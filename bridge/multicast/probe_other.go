//go:build !linux

package multicast

import (
	"context"
	"errors"
	"net/netip"
)

func (s *Sender) probe(context.Context) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.New("it needs Linux")
}
