package multicast

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Modes of a filter of sources (RFC 3678, section 3): from those listed, or from all but those.
const (
	filterInclude = 1 // MCAST_INCLUDE
	filterExclude = 0 // MCAST_EXCLUDE
)

// setFilter replaces by one call (RFC 3678, section 5.2) from whom a socket hears a group that
// it has joined: so there is no moment at which it has left.
func setFilter(fd, index int, group netip.Addr, sources []netip.Addr) error {
	const word = int(unsafe.Sizeof(uintptr(0))) // what a sockaddr_storage is aligned to
	b := binary.NativeEndian.AppendUint32(nil, uint32(index))
	b = append(b, make([]byte, word-len(b))...)
	b = appendSockaddr(b, group)
	mode := uint32(filterInclude)
	if len(sources) == 0 {
		mode = filterExclude
	}
	b = binary.NativeEndian.AppendUint32(b, mode)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(sources)))
	for _, s := range sources {
		b = appendSockaddr(b, s)
	}
	level := unix.IPPROTO_IP
	if group.Is6() {
		level = unix.IPPROTO_IPV6
	}
	return option("MCAST_MSFILTER", unix.SetsockoptString(fd, level, unix.MCAST_MSFILTER, string(b)))
}

// appendSockaddr appends an address as a sockaddr_storage, of 128 bytes, without a port.
func appendSockaddr(b []byte, a netip.Addr) []byte {
	storage := make([]byte, 128)
	if a.Is6() {
		binary.NativeEndian.PutUint16(storage, unix.AF_INET6)
		copy(storage[8:], a.AsSlice()) // behind port and flow label
	} else {
		binary.NativeEndian.PutUint16(storage, unix.AF_INET)
		copy(storage[4:], a.AsSlice())
	}
	return append(b, storage...)
}

// replaceSources does the work of SetSources. Callers hold mu.
func (r *Receiver) replaceSources(sources []netip.Addr) (err error) {
	if len(r.sockets) != 1 || r.sockets[0].extra != nil {
		return errors.ErrUnsupported // joinAcrossSockets was needed
	}
	if e := r.raw.Control(func(fd uintptr) { err = setFilter(int(fd), r.on.Index, r.group.Addr(), sources) }); e != nil {
		return e
	}
	return err
}
