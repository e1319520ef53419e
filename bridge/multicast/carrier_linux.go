package multicast

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Carrier returns nil if the interface is up with carrier, and the carrier has not
// changed since the last call, or since Open. Else the error wraps ErrPending, and
// what Send has given to the kernel since then may have been lost: without carrier
// the kernel goes on taking datagrams.
//
// It asks the kernel, which takes some microseconds and no memory, for what Watch is
// told comes later: the kernel delays its notices, some of them by a second. A
// request that fails tells nothing, and counts as nil.
func (s *Sender) Carrier() error {
	now, ok := s.carrier.querier.query(s.source.Index)
	if !ok {
		return nil
	}
	on := s.source.Interface
	switch was := s.carrier.changes.Swap(now.changes); {
	case now.gone:
		return pending(fmt.Sprintf("interface %s is gone", on))
	case now.changes == was || now.flags&unix.IFF_UP == 0 || !carrier(now.flags):
		return Interface{Name: on, Up: now.flags&unix.IFF_UP != 0, Carrier: carrier(now.flags)}.Usable()
	}
	return pending(fmt.Sprintf("interface %s had no carrier for a moment", on))
}

// carrierState is what a sender knows of its interface's carrier and address.
type carrierState struct {
	querier  *rtnlQuerier  // nil: nobody can be asked
	address  address       // the source's
	fixed    bool          // the address is not one that can be told of: it stands for a network of the loopback interface
	changes  atomic.Uint32 // how often the carrier had come or gone, when last asked
	released sync.Once
}

// open finds whom to ask in the network namespace of the calling thread.
func (w *carrierState) open(src Source) {
	w.querier = findQuerier()
	w.address = address{key: addressKey{src.Index, src.Addr}}
	now, known := w.querier.query(src.Index)
	w.changes.Store(now.changes)
	if !w.hasAddress() {
		w.querier.addresses.reread()
		w.fixed = known && now.flags&unix.IFF_LOOPBACK != 0 && !w.hasAddress()
	}
}

// hasAddress reports whether the source is on the interface, as far as the kernel
// tells.
func (w *carrierState) hasAddress() bool { return w.stillHasAddress(nil, 0) }

// stillHasAddress is hasAddress before n datagrams are sent, without asking the kernel where check has.
func (w *carrierState) stillHasAddress(check *AddressCheck, n int) bool {
	if w.fixed || w.querier == nil || w.querier.addresses == nil {
		return true
	}
	return w.querier.addresses.has(&w.address, check, n)
}

// isBroadcast reports whether an address stands for all of a network of this host, as far as the
// kernel tells.
func (w *carrierState) isBroadcast(addr netip.Addr) bool {
	return w.querier != nil && w.querier.addresses != nil && w.querier.addresses.isBroadcast(addr)
}

// mtu asks the kernel for the MTU of the interface; 0: it does not say.
func (w *carrierState) mtu(index int) int {
	now, _ := w.querier.query(index)
	return now.mtu
}

// up asks the kernel whether the interface is there and up; where it does not say, it is.
func (w *carrierState) up(index int) bool {
	now, ok := w.querier.query(index)
	return !ok || !now.gone && now.flags&unix.IFF_UP != 0
}

func (w *carrierState) close() { w.released.Do(w.querier.release) }

// rtnlQuerier asks the kernel about the interfaces of one network namespace. All senders
// there share it, so that ten thousand of them do not take as many descriptors.
type rtnlQuerier struct {
	namespace uint64
	users     int        // under queriers.mu
	addresses *addresses // nil: the kernel does not tell

	mu       sync.Mutex // one request at a time
	fd       int        // -1: closed
	number   uint32     // of the last request
	request  [requestSize]byte
	response [4096]byte // the rest of a longer one is cut off; what is read is in front
}

var queriers struct {
	mu          sync.Mutex
	byNamespace map[uint64]*rtnlQuerier
}

// findQuerier returns the querier of the calling thread's network namespace, or nil.
func findQuerier() *rtnlQuerier {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	// Since Linux 5.14. Before, 0 stands for the one namespace that there is: only
	// tests open senders in several.
	namespace, _ := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	queriers.mu.Lock()
	defer queriers.mu.Unlock()
	a := queriers.byNamespace[namespace]
	if a != nil {
		unix.Close(fd)
	} else {
		a = &rtnlQuerier{namespace: namespace, fd: fd, addresses: watchAddresses()}
		if queriers.byNamespace == nil {
			queriers.byNamespace = make(map[uint64]*rtnlQuerier)
		}
		queriers.byNamespace[namespace] = a
	}
	a.users++
	return a
}

// release gives up the querier; the last to do so closes it.
func (a *rtnlQuerier) release() {
	if a == nil {
		return
	}
	queriers.mu.Lock()
	defer queriers.mu.Unlock()
	if a.users--; a.users > 0 {
		return
	}
	delete(queriers.byNamespace, a.namespace)
	a.addresses.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	unix.Close(a.fd)
	a.fd = -1
}

// linkState is what an interface is like at one moment.
type linkState struct {
	gone    bool
	flags   uint32 // netdevice(7)
	changes uint32 // how often the carrier has come or gone; 0 before Linux 3.15
	mtu     int    // in bytes; 0: unknown
}

// query is not ok if there is no answer. It never waits for one: the kernel has
// answered when it has taken the request (rtnetlink(7) does not say so, but a
// request is carried out by the one who writes it).
func (a *rtnlQuerier) query(index int) (s linkState, ok bool) {
	if a == nil {
		return s, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	putRequest(&a.request, a.number, index)
	if _, err := unix.Write(a.fd, a.request[:]); err != nil {
		return s, false
	}
	for {
		n, err := unix.Read(a.fd, a.response[:])
		if err != nil {
			return s, false
		}
		if message := a.response[:n]; n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(message[8:]) == a.number {
			return readResponse(message)
		} // else the response to a request that was given up
	}
}

// requestSize is that of a header (netlink(7)), an ifinfomsg, and one attribute
// with a number (rtnetlink(7)).
const requestSize = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg + unix.SizeofRtAttr + 4

// skipStatistics is RTEXT_FILTER_SKIP_STATS: counting them takes longer than the rest.
const skipStatistics = 1 << 3

func putRequest(q *[requestSize]byte, number uint32, index int) {
	order := binary.NativeEndian
	order.PutUint32(q[0:], requestSize)
	order.PutUint16(q[4:], unix.RTM_GETLINK)
	order.PutUint16(q[6:], unix.NLM_F_REQUEST)
	order.PutUint32(q[8:], number)
	info := q[unix.SizeofNlMsghdr:]
	order.PutUint32(info[4:], uint32(index))
	attribute := info[unix.SizeofIfInfomsg:]
	order.PutUint16(attribute[0:], unix.SizeofRtAttr+4)
	order.PutUint16(attribute[2:], unix.IFLA_EXT_MASK)
	order.PutUint32(attribute[4:], skipStatistics)
}

// readResponse is not ok if the kernel has not understood the request.
func readResponse(message []byte) (s linkState, ok bool) {
	order := binary.NativeEndian
	kind, body := order.Uint16(message[4:]), message[unix.SizeofNlMsghdr:]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		s.gone = unix.Errno(-int32(order.Uint32(body))) == unix.ENODEV
		return s, s.gone
	case kind != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg:
		return s, false
	}
	s.flags = order.Uint32(body[8:])
	for rest := body[unix.SizeofIfInfomsg:]; len(rest) >= unix.SizeofRtAttr; {
		size := int(order.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			break
		}
		switch kind := order.Uint16(rest[2:]); {
		case size != unix.SizeofRtAttr+4:
		case kind == unix.IFLA_MTU:
			s.mtu = int(order.Uint32(rest[unix.SizeofRtAttr:]))
		case kind == unix.IFLA_CARRIER_CHANGES: // behind the MTU
			s.changes = order.Uint32(rest[unix.SizeofRtAttr:])
			return s, true
		}
		rest = rest[min((size+3)&^3, len(rest)):] // attributes begin at multiples of four
	}
	return s, true
}
