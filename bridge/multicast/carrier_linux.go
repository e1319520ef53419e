package multicast

import (
	"encoding/binary"
	"fmt"
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
// told comes later: the kernel saves such news up, some of it for a second. A
// question that fails tells nothing, and counts as nil.
func (s *Sender) Carrier() error {
	now, ok := s.wire.asker.ask(s.source.Index)
	if !ok {
		return nil
	}
	on := s.source.Interface
	switch was := s.wire.changes.Swap(now.changes); {
	case now.gone:
		return pending(fmt.Sprintf("interface %s is gone", on))
	case now.flags&unix.IFF_UP == 0:
		return pending(fmt.Sprintf("interface %s is down", on))
	case !carrier(now.flags):
		return pending(fmt.Sprintf("interface %s has no carrier", on))
	case now.changes != was:
		return pending(fmt.Sprintf("interface %s had no carrier for a moment", on))
	}
	return nil
}

// wire is what a sender knows of its interface's carrier.
type wire struct {
	asker    *asker        // nil: nobody can be asked
	changes  atomic.Uint32 // how often the carrier had come or gone, when last asked
	released sync.Once
}

// open finds whom to ask in the network namespace of the calling thread.
func (w *wire) open(index int) {
	w.asker = findAsker()
	now, _ := w.asker.ask(index)
	w.changes.Store(now.changes)
}

func (w *wire) close() { w.released.Do(w.asker.release) }

// asker asks the kernel about the interfaces of one network namespace. All senders
// there share it, so that ten thousand of them do not take as many descriptors.
type asker struct {
	namespace uint64
	users     int // under askers.mu

	mu       sync.Mutex // one question at a time
	fd       int        // -1: closed
	number   uint32     // of the last question
	question [questionSize]byte
	answer   [4096]byte // the rest of a longer one is cut off; what is read is in front
}

var askers struct {
	mu          sync.Mutex
	byNamespace map[uint64]*asker
}

// findAsker returns the asker of the calling thread's network namespace, or nil.
func findAsker() *asker {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	// Since Linux 5.14. Before, 0 stands for the one namespace that there is: only
	// tests open senders in several.
	namespace, _ := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	askers.mu.Lock()
	defer askers.mu.Unlock()
	a := askers.byNamespace[namespace]
	if a != nil {
		unix.Close(fd)
	} else {
		a = &asker{namespace: namespace, fd: fd}
		if askers.byNamespace == nil {
			askers.byNamespace = make(map[uint64]*asker)
		}
		askers.byNamespace[namespace] = a
	}
	a.users++
	return a
}

// release lets go of the asker; the last to do so closes it.
func (a *asker) release() {
	if a == nil {
		return
	}
	askers.mu.Lock()
	defer askers.mu.Unlock()
	if a.users--; a.users > 0 {
		return
	}
	delete(askers.byNamespace, a.namespace)
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
}

// ask is not ok if there is no answer. It never waits for one: the kernel has
// answered when it has taken the question (rtnetlink(7) does not say so, but a
// request is carried out by the one who writes it).
func (a *asker) ask(index int) (s linkState, ok bool) {
	if a == nil {
		return s, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	putQuestion(&a.question, a.number, index)
	if _, err := unix.Write(a.fd, a.question[:]); err != nil {
		return s, false
	}
	for {
		n, err := unix.Read(a.fd, a.answer[:])
		if err != nil {
			return s, false
		}
		if message := a.answer[:n]; n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(message[8:]) == a.number {
			return readAnswer(message)
		} // else the answer to a question that was given up
	}
}

// questionSize is that of a header (netlink(7)), an ifinfomsg, and one attribute
// with a number (rtnetlink(7)).
const questionSize = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg + unix.SizeofRtAttr + 4

// skipStatistics is RTEXT_FILTER_SKIP_STATS: counting them takes longer than the rest.
const skipStatistics = 1 << 3

func putQuestion(q *[questionSize]byte, number uint32, index int) {
	order := binary.NativeEndian
	order.PutUint32(q[0:], questionSize)
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

// readAnswer is not ok if the kernel has not understood the question.
func readAnswer(message []byte) (s linkState, ok bool) {
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
		if order.Uint16(rest[2:]) == unix.IFLA_CARRIER_CHANGES && size == unix.SizeofRtAttr+4 {
			s.changes = order.Uint32(rest[unix.SizeofRtAttr:])
			break
		}
		rest = rest[min((size+3)&^3, len(rest)):] // attributes begin at multiples of four
	}
	return s, true
}
