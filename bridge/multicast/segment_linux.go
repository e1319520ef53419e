package multicast

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// segmentSpace is the size of the control message that carries UDP_SEGMENT.
var segmentSpace = unix.CmsgSpace(2)

// setSegment writes into b, of segmentSpace bytes, the control message that has
// the kernel cut an entry into datagrams of size bytes (udp(7), UDP_SEGMENT).
func setSegment(b []byte, size int) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level = unix.IPPROTO_UDP
	h.Type = unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&b[unix.CmsgLen(0)])) = uint16(size)
	return b
}
