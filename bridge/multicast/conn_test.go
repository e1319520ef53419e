package multicast

import (
	"net"
	"testing"
)

// Package net gives IPv4 addresses in 4 bytes or in 16, as it comes, and
// link-local ones with a zone; to compare sources, there is one form.
func TestAddressesAreGivenOutInOneForm(t *testing.T) {
	for _, tt := range []struct {
		in   net.Addr
		want string
	}{
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5}, "127.0.0.1:5"},
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 5}, "127.0.0.1:5"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 5}, "[fe80::1]:5"},
		{&net.UnixAddr{}, "invalid AddrPort"},
	} {
		if got := addrPort(tt.in); got.String() != tt.want {
			t.Errorf("%v: %v, want %s", tt.in, got, tt.want)
		}
	}
}
