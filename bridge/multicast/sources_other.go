//go:build !linux

package multicast

import (
	"errors"
	"net/netip"
)

func (r *Receiver) replaceSources([]netip.Addr) error { return errors.ErrUnsupported }
