package multicast

import (
	"math/bits"

	"golang.org/x/sys/windows"
)

// The two options have the same number (ws2ipdef.h: IP_DONTFRAGMENT,
// IPV6_DONTFRAG), which x/sys does not name.
const dontFragment = 14

func forbidFragments(fd uintptr, ipv6 bool) error {
	level := windows.IPPROTO_IP
	if ipv6 {
		level = windows.IPPROTO_IPV6
	}
	return windows.SetsockoptInt(windows.Handle(fd), level, dontFragment, 1)
}

// shareAddress lets other programs receive the same group.
func shareAddress(fd uintptr) error {
	return windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_REUSEADDR, 1)
}

// unicastInterface: IP_UNICAST_IF and IPV6_UNICAST_IF (ws2ipdef.h).
const unicastInterface = 31

// pinHosts sets it: of IPv4 the index is in the network's order.
func pinHosts(fd uintptr, ipv6 bool, index int) error {
	level, value := windows.IPPROTO_IP, int(int32(bits.ReverseBytes32(uint32(index))))
	if ipv6 {
		level, value = windows.IPPROTO_IPV6, index
	}
	return windows.SetsockoptInt(windows.Handle(fd), level, unicastInterface, value)
}

func setBroadcast(fd uintptr, value int) error {
	return windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_BROADCAST, value)
}
