package multicast

import "golang.org/x/sys/windows"

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
