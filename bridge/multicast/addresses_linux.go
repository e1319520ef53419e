package multicast

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addresses are those of the interfaces of one network namespace, usable ones, as of
// the last look at what the kernel has told of them. All senders there share it.
//
// Linux sends from an address that has moved to another interface (IPv4), or is gone
// altogether (IPv6), for as long as a socket is bound to it, and reports nothing. But
// it queues the notice on a netlink socket before the address can be used elsewhere. So
// whoever looks there first, and then sends, sends from an address that is where it
// was a moment before; no goroutine has to be woken for that.
type addresses struct {
	mu      sync.Mutex
	fd      int // -1: closed
	present map[addressKey]broadcasts
	changes uint64              // counts what was told, so that whoever knows present need not look it up again
	known   map[netip.Addr]bool // all of present's; nil: something has changed since
	buffer  [32 << 10]byte      // what is read; the kernel fills no more in a dump
}

type addressKey struct {
	index int // of the interface
	addr  netip.Addr
}

// address is one that is asked for again and again, with what was found last. The mu of the
// addresses that are asked guards that.
type address struct {
	key     addressKey
	changes uint64 // as it was then
	present bool
}

// broadcasts are the addresses that stand for all of an address's network: the one that was
// given with it (ip-address(8), brd), and the highest, which the kernel takes for one whatever
// was given. Not valid where there is none.
type broadcasts struct{ given, highest netip.Addr }

// An AddressCheck is shared by senders that send one right after the other what is ready at the
// same time. It remembers that the kernel was asked for the addresses: the answer holds for
// the next maxDatagrams datagrams, as it does for those of one call, instead of being asked for
// again before each sender's call. With few datagrams for each of many senders that
// is a system call saved for each of them.
//
// The zero value has not asked. Whoever waits for something before he sends on takes a
// new one. It is for one goroutine.
type AddressCheck struct {
	of   *addresses // that were looked at
	left int        // datagrams for which that holds
}

// watchAddresses looks at the addresses in the network namespace of the calling
// thread. It returns nil where the kernel does not tell.
func watchAddresses() *addresses {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	a := &addresses{fd: fd}
	const groups = 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}) != nil || !a.look() {
		unix.Close(fd)
		return nil
	}
	return a
}

func (a *addresses) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	unix.Close(a.fd)
	a.fd = -1
}

// has reports whether an interface has an address now, as n datagrams are to be sent from it. It
// costs a system call that finds nothing as a rule, unless check has it made already, and
// no memory.
func (a *addresses) has(of *address, check *AddressCheck, n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if check != nil && check.of == a && check.left >= n {
		check.left -= n
		return a.hasNow(of)
	}
	for {
		told, errno := a.read()
		switch {
		case errno == unix.EAGAIN:
			if check != nil {
				*check = AddressCheck{of: a, left: maxDatagrams - n}
			}
			return a.hasNow(of)
		case errno == unix.EINTR:
		case errno != 0: // ENOBUFS: there was more than the socket could hold
			if !a.look() {
				return false // right source or nothing
			}
		default:
			a.apply(a.buffer[:told], nil)
		}
	}
}

// hasNow reports whether an interface has an address, as of the last look. Callers hold mu.
func (a *addresses) hasNow(of *address) bool {
	if of.changes != a.changes {
		_, of.present = a.present[of.key]
		of.changes = a.changes
	}
	return of.present
}

// isBroadcast reports whether an address stands for all of a network that any interface is on,
// as of the last look. The kernel refuses those of the interface that is sent from; one of
// another it takes for a host's, and sends it to all of the link.
func (a *addresses) isBroadcast(addr netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[netip.Addr]bool)
		for _, b := range a.present {
			a.known[b.given], a.known[b.highest] = true, true
		}
		delete(a.known, netip.Addr{})
	}
	return a.known[addr]
}

// reread asks for all addresses anew. The kernel tells of a new IPv6 address that
// needs no check for duplicates a moment after it can be used.
func (a *addresses) reread() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
}

// read is a raw system call, since it never waits: see outbox.send.
func (a *addresses) read() (n int, errno unix.Errno) {
	r, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(a.fd), uintptr(unsafe.Pointer(&a.buffer[0])), uintptr(len(a.buffer)))
	return int(r), errno
}

// look asks for all addresses, and reports whether the kernel has told. Callers hold
// mu, or have a alone.
func (a *addresses) look() bool {
	for range 5 { // a dump that a change cut short, or that did not fit, is repeated
		if a.dump() {
			return true
		}
	}
	return false
}

func (a *addresses) dump() bool {
	const size = unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg
	var request [size]byte
	order := binary.NativeEndian
	order.PutUint32(request[0:], size)
	order.PutUint16(request[4:], unix.RTM_GETADDR)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if _, err := unix.Write(a.fd, request[:]); err != nil {
		return false
	}
	a.present, a.known = make(map[addressKey]broadcasts), nil
	a.changes++
	removed := make(map[addressKey]bool) // while the dump was made
	whole := true
	for {
		n, errno := a.read()
		switch {
		case errno == unix.EINTR:
		case errno == unix.ENOBUFS:
			whole = false
		case errno != 0:
			return false
		default:
			if end, interrupted := a.apply(a.buffer[:n], removed); end {
				return whole && !interrupted
			} else if interrupted {
				whole = false
			}
		}
	}
}

// apply enters what messages say of addresses. removed is not nil during a dump,
// whose part may be older than the notices queued before it. end reports whether a dump
// ends here.
func (a *addresses) apply(messages []byte, removed map[addressKey]bool) (end, interrupted bool) {
	a.changes++
	order := binary.NativeEndian
	for len(messages) >= unix.SizeofNlMsghdr {
		size := int(order.Uint32(messages))
		if size < unix.SizeofNlMsghdr || size > len(messages) {
			break
		}
		kind, flags, body := order.Uint16(messages[4:]), order.Uint16(messages[6:]), messages[unix.SizeofNlMsghdr:size]
		ofDump := flags&unix.NLM_F_MULTI != 0
		interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		k, all, usable, ok := readAddress(body)
		switch {
		case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
			end, interrupted = true, interrupted || kind == unix.NLMSG_ERROR
		case !ok:
		case kind == unix.RTM_DELADDR, kind == unix.RTM_NEWADDR && !usable:
			delete(a.present, k)
			a.known = nil
			if removed != nil {
				removed[k] = true
			}
		case kind == unix.RTM_NEWADDR && !(ofDump && removed[k]):
			a.present[k], a.known = all, nil
			delete(removed, k)
		}
		messages = messages[min((size+3)&^3, len(messages)):]
	}
	return end, interrupted
}

// readAddress reads an ifaddrmsg and its attributes (rtnetlink(7)).
func readAddress(b []byte) (k addressKey, all broadcasts, usable, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return k, all, false, false
	}
	order := binary.NativeEndian
	usable = b[2]&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
	k.index = int(order.Uint32(b[4:]))
	for rest := b[unix.SizeofIfAddrmsg:]; len(rest) >= unix.SizeofRtAttr; {
		size := int(order.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			break
		}
		// IFA_LOCAL is the own address, where IFA_ADDRESS may be the other end's.
		switch kind := order.Uint16(rest[2:]); {
		case kind == unix.IFA_LOCAL, kind == unix.IFA_ADDRESS && !ok:
			if addr, is := netip.AddrFromSlice(rest[unix.SizeofRtAttr:size]); is {
				k.addr, ok = addr, true
			}
		case kind == unix.IFA_BROADCAST:
			all.given, _ = netip.AddrFromSlice(rest[unix.SizeofRtAttr:size])
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	if bits := int(b[1]); k.addr.Is4() && bits < 31 { // RFC 3021: a network of two has none
		highest := k.addr.As4()
		for i := bits; i < 32; i++ {
			highest[i/8] |= 0x80 >> (i % 8)
		}
		all.highest = netip.AddrFrom4(highest)
	}
	return k, all, usable, ok
}
