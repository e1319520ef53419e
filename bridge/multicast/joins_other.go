//go:build !linux

package multicast

import "errors"

// ReadJoins lists what is joined now: on Linux only.
func ReadJoins() (Joins, error) { return nil, errors.ErrUnsupported }
