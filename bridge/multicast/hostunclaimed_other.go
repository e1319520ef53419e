//go:build !linux

package multicast

import "errors"

// CountHostUnclaimed is for Linux.
func CountHostUnclaimed() (HostUnclaimed, error) { return HostUnclaimed{}, errors.ErrUnsupported }
