package multicast

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slotSpace is how far apart payloads lie. The 64 bytes beyond a power of two
// put the beginnings of neighbours into different cache sets, and yet what is
// shorter than a page mostly touches one.
const slotSpace = 1<<16 + 64

// inbox is the memory of one recvmmsg(2), prepared once. Its payloads are address
// space of which the kernel fills, and so makes real, only what datagrams need.
type inbox struct {
	headers  []unix.Mmsghdr
	slots    []slot
	payloads []byte
	used     int         // headers that the last call has written to
	real     int         // bytes of slots that datagrams have made real, beyond one page of each
	mapped   bool        // the payloads are memory of their own, which can be given back
	free     chan *inbox // where it goes when it is not in use
	single   bool        // it is for one datagram, of this length at most
	long     bool        // likewise, and one of maxLong
}

// slot is what a header of the same index points to.
type slot struct {
	payload unix.Iovec
	source  unix.RawSockaddrInet6 // has room for IPv4's too
	arrival arrival
	real    int // bytes of it that are real, as far as they count
}

// arrival is the one control message that is asked for, PKTINFO. It is laid out
// as cmsg(3) has it: there is no padding between the two.
type arrival struct {
	header unix.Cmsghdr
	info   [unix.SizeofInet6Pktinfo]byte // longer than IPv4's
}

func newInbox(payloads []byte) *inbox { return newSlots(payloads, len(payloads)/slotSpace) }

func newSlots(payloads []byte, slots int) *inbox {
	in := &inbox{
		headers:  make([]unix.Mmsghdr, slots),
		slots:    make([]slot, slots),
		payloads: payloads,
		used:     slots,
	}
	for i := range in.headers {
		h, s := &in.headers[i].Hdr, &in.slots[i]
		s.payload.Base = &in.payloads[i*slotSpace]
		s.payload.SetLen(maxArrival)
		h.Iov = &s.payload
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.source))
		h.Control = (*byte)(unsafe.Pointer(&s.arrival))
	}
	return in
}

// receive takes up to most datagrams that have arrived, and never waits.
func (in *inbox) receive(fd uintptr, most int) unix.Errno {
	for i := range in.headers[:in.used] { // the kernel has written what it used of these
		h := &in.headers[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(unix.RawSockaddrInet6{}))
		h.SetControllen(int(unsafe.Sizeof(arrival{})))
	}
	in.used = 0
	// Raw, since the call is over in microseconds: Go's scheduler, told of it, would
	// hand the processor to another thread in the middle of a full batch.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers[0])),
		uintptr(min(most, len(in.headers))), unix.MSG_DONTWAIT, 0, 0)
	if errno == 0 {
		in.used = int(n)
	}
	return errno
}

// ordinary is how long a datagram is at most of which most of a slot's pages are not needed.
const ordinary = 4 << 10

// measure counts the bytes of what has been received, and those of slots that it has made
// real.
func (in *inbox) measure() (bytes int) {
	for i := range in.headers[:in.used] {
		n := int(in.headers[i].Len)
		bytes += n
		if s := &in.slots[i]; n > ordinary && n > s.real {
			in.real += n - s.real
			s.real = n
		}
	}
	return bytes
}

// giveBack gives the memory of the payloads back to the system if more of it is real than is
// to be kept. They are lost with it.
func (in *inbox) giveBack(kept int) {
	if in.real <= kept || !in.mapped || unix.Madvise(in.payloads, unix.MADV_DONTNEED) != nil {
		return
	}
	in.real = 0
	for i := range in.slots {
		in.slots[i].real = 0
	}
}

func (in *inbox) payload(i int) []byte {
	n := int(in.headers[i].Len)
	return in.payloads[i*slotSpace:][:n:n]
}

// cut reports whether a payload was longer than its slot.
func (in *inbox) cut(i int) bool { return in.headers[i].Hdr.Flags&unix.MSG_TRUNC != 0 }

// source returns who sent a datagram, without a zone.
func (in *inbox) source(i int) netip.AddrPort {
	sa := &in.slots[i].source
	port := (*[2]byte)(unsafe.Pointer(&sa.Port)) // at the same place in both families
	addr := netip.AddrFrom16(sa.Addr)
	if sa.Family == unix.AF_INET {
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr)
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port[:]))
}

// index returns the interface that a datagram arrived on, 0 if that is not known.
func (in *inbox) index(i int) int {
	a, given := &in.slots[i].arrival, int(in.headers[i].Hdr.Controllen)
	switch h := &a.header; {
	case given >= unix.CmsgLen(unix.SizeofInet4Pktinfo) && h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		return int(binary.NativeEndian.Uint32(a.info[:])) // in_pktinfo.ipi_ifindex
	case given >= unix.CmsgLen(unix.SizeofInet6Pktinfo) && h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
		return int(binary.NativeEndian.Uint32(a.info[16:])) // in6_pktinfo.ipi6_ifindex
	}
	return 0
}

// destination returns the address that a datagram was sent to; it is not valid if that is
// not known.
func (in *inbox) destination(i int) netip.Addr {
	a, given := &in.slots[i].arrival, int(in.headers[i].Hdr.Controllen)
	switch h := &a.header; {
	case given >= unix.CmsgLen(unix.SizeofInet4Pktinfo) && h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		return netip.AddrFrom4([4]byte(a.info[8:12])) // in_pktinfo.ipi_addr
	case given >= unix.CmsgLen(unix.SizeofInet6Pktinfo) && h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
		return netip.AddrFrom16([16]byte(a.info[:16])) // in6_pktinfo.ipi6_addr
	}
	return netip.Addr{}
}

// A receiver has an inbox while it has datagrams to hand out, and none while it
// waits: thousands of quiet sockets share a few. Of large ones there are only as
// many as keep the processors busy, and some small ones for those that come when the others
// are in use, because their holders wait for something. Whoever comes then gets one for a
// single datagram, as long as the one that is next: thousands of receivers held up at once do
// not take gigabytes. Of those for long ones there are few, too; a caller that finds none leaves its
// datagram with the kernel until somebody has given one back.
//
// Of long datagrams a call takes fewer, so that they are no more than maxTaken bytes if the
// next ones are as the last: what a call has made real of an inbox stays so while others need
// it. What is beyond that is given back before the next call, and beyond keptReal when nobody
// has the inbox.
const (
	maxTaken = 512 << 10
	keptReal = 128 << 10

	largePerProcessor = 2 // 4 MiB each
	smallSlots        = 4 // 256 KiB
	smallInboxes      = 32
	singleSpace       = 2 << 10 // at least
	maxLong           = 32      // for a single datagram that is longer
)

var (
	large  = newFreeList(largePerProcessor * runtime.GOMAXPROCS(0))
	small  = newFreeList(smallInboxes)
	long   = newFreeList(maxLong) // a nil for each that may be made
	single = sync.Pool{New: func() any { return newSingle(singleSpace) }}
)

// newMapped takes its memory beside Go's: little of it is ever real, but all
// of it would count for the collector of garbage, which lets as much garbage
// gather as there is memory in use.
func newMapped(slots int, free chan *inbox) *inbox {
	size := slots * slotSpace
	mapped, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		mapped = nil
	}
	payloads := mapped
	if mapped == nil {
		payloads = make([]byte, size)
	} else {
		_ = unix.Madvise(mapped, unix.MADV_NOHUGEPAGE) // or the first datagram makes 2 MiB of it real
	}
	in := newInbox(payloads)
	in.free, in.mapped = free, mapped != nil
	// A receiver may be dropped without Close, with its inbox.
	runtime.AddCleanup(in, func(free chan *inbox) {
		if mapped != nil {
			_ = unix.Munmap(mapped)
		}
		free <- nil
	}, free)
	return in
}

// newSingle is for one datagram of some length.
func newSingle(length int) *inbox {
	in := newSlots(make([]byte, length), 1)
	in.slots[0].payload.SetLen(length)
	in.single = true
	return in
}

// newFreeList returns a free list for n. A nil in it stands for one not made yet.
func newFreeList(n int) chan *inbox {
	free := make(chan *inbox, n)
	for range n {
		free <- nil
	}
	return free
}

// getInbox finds an inbox for what a socket has. The error is EAGAIN where that may be
// nothing, and somebody else has the others; there is none, and no error, where others have
// all that there may be for a long datagram. may says that the caller has taken one off long.
func getInbox(fd uintptr, may bool) (*inbox, unix.Errno) {
	select {
	case in := <-large:
		if in == nil {
			in = newMapped(MaxReceive, large)
		}
		return in, 0
	default:
	}
	select {
	case in := <-small:
		if in == nil {
			in = newMapped(smallSlots, small)
		}
		return in, 0
	default:
	}
	length, errno := nextLength(fd)
	switch {
	case errno != 0:
		return nil, errno
	case length <= singleSpace:
		return single.Get().(*inbox), 0
	}
	if !may {
		select {
		case <-long:
		default:
			return nil, 0
		}
	}
	in := newSingle(length)
	in.long = true
	return in, 0
}

// nextLength is how long the datagram is that comes next. It stays where it is.
func nextLength(fd uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, 0, 0, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func (in *inbox) put() {
	in.giveBack(keptReal)
	switch {
	case in.free != nil:
		in.free <- in
	case in.long:
		in.long = false
		long <- nil
	case in.single && len(in.payloads) == singleSpace:
		single.Put(in)
	}
}
