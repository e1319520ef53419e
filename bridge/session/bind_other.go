//go:build !linux

package session

import "errors"

func bindToInterface(uintptr, string) error {
	return errors.New("on this system an address is needed, not the name of an interface")
}
