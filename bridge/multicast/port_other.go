//go:build !linux

package multicast

import (
	"fmt"
	"net/netip"
)

// portTaken says what can be done where a program keeps a receiver from its port.
func portTaken(group netip.AddrPort) string {
	return fmt.Sprintf("port %d is taken by a program that does not share it: stop it, or have it share the port", group.Port())
}
