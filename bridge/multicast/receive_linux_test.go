package multicast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The tests of this file need no privilege: IPv4 multicast works over lo.

// A receiver that is asked for few datagrams at a time leaves the rest to the
// next call, and one that is asked for many gets no more than there are.
func TestReceiveTakesNoMoreThanItIsAskedFor(t *testing.T) {
	r, s := hear(t, "239.1.1.1:0", ReceiverOptions{}), openAt(t, at127(2))
	var want []string
	for i := range 3 * MaxReceive {
		want = append(want, fmt.Sprint("datagram ", i))
	}
	for _, size := range []int{1, 3, MaxReceive, 10 * MaxReceive} {
		send(t, s, r.Group(), want...)
		var got []string
		for batch := make([]Datagram, size); len(got) < len(want); {
			n, err := r.Receive(batch)
			if err != nil || n > min(size, MaxReceive) {
				t.Fatalf("batch of %d: %d received, %v", size, n, err)
			}
			got = append(got, payloads(batch[:n])...)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("batch of %d: want -, got +:\n%s", size, d)
		}
	}
	if n, err := r.Receive(nil); n != 0 || err != nil {
		t.Errorf("no batch: %d, %v", n, err)
	}
}

// settleInboxes waits until no receiver, forgotten ones among them, has a large
// inbox.
func settleInboxes(t *testing.T) {
	t.Helper()
	for range 1000 {
		if len(large) == cap(large) && len(small) == cap(small) {
			return
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Fatalf("%d of %d large inboxes came back, and %d of %d small ones", len(large), cap(large), len(small), cap(small))
}

// Receivers that wait hold no memory for datagrams, those that are all busy at
// once hold little, and those that are forgotten take none with them.
func TestInboxesAreBounded(t *testing.T) {
	settleInboxes(t)
	s := openAt(t, at127(2))
	var rs []*Receiver
	mine := map[int]int{} // slots, how many
	for i := range cap(large) + cap(small) + 3 {
		r := hear(t, fmt.Sprintf("239.1.2.%d:0", i), ReceiverOptions{})
		send(t, s, r.Group(), "one", "two", "three", "four", "five")
		n, err := r.Receive(make([]Datagram, MaxReceive))
		if err != nil || n > len(r.inbox.slots) {
			t.Fatalf("%d received, %v", n, err)
		}
		mine[len(r.inbox.slots)]++
		next(t, r, 5-n)
		rs = append(rs, r)
	}
	if mine[MaxReceive] != cap(large) || mine[smallSlots] != cap(small) || mine[1] != 3 {
		t.Errorf("inboxes in use, by their size: %v, want %d large, %d small and 3 for one datagram", mine, cap(large), cap(small))
	}
	for _, r := range rs[1:] {
		r.Close()
		if _, err := r.Receive(make([]Datagram, 1)); !errors.Is(err, net.ErrClosed) || r.inbox != nil {
			t.Errorf("closed: %v, has an inbox: %t", err, r.inbox != nil)
		}
	}
	rs[0].inbox = nil // as if it had been forgotten
	settleInboxes(t)

	r := hear(t, "239.1.3.1:0", ReceiverOptions{})
	handed := make(chan int)
	go func() {
		for batch := make([]Datagram, 1); ; {
			if _, err := r.Receive(batch); err != nil {
				return
			}
			handed <- len(large)
		}
	}()
	send(t, s, r.Group(), "one")
	if left := <-handed; left != cap(large)-1 {
		t.Errorf("%d large inboxes are left", left)
	}
	settleInboxes(t) // it waits again
}

// Where others have all inboxes, each datagram gets what it needs, and is whole.
func TestDatagramsAreWholeWhereAllInboxesAreInUse(t *testing.T) {
	settleInboxes(t)
	var others []*inbox
	for range cap(large) + cap(small) {
		in, _ := getInbox(0, false)
		others = append(others, in)
	}
	defer func() {
		for _, in := range others {
			in.put()
		}
	}()
	s, r := openAt(t, at127(2)), hear(t, "239.1.2.3:0", ReceiverOptions{})
	var want []string
	for _, n := range []int{5, 0, singleSpace, singleSpace + 1, 60_000, 65_507, 1} {
		want = append(want, strings.Repeat("x", n))
	}
	got := make(chan []string)
	go func() { // it waits first, without an inbox
		var all []string
		for batch := make([]Datagram, MaxReceive); len(all) < len(want); {
			n, err := r.Receive(batch)
			if err != nil {
				break
			}
			all = append(all, payloads(batch[:n])...)
		}
		got <- all
	}()
	send(t, s, r.Group(), want...)
	if all := <-got; !slices.Equal(all, want) {
		t.Errorf("%d of %d arrive, or other ones", len(all), len(want))
	}
}

// It cannot happen, so it is made to: half a datagram is not passed off as one.
func TestADatagramThatWasCutIsADrop(t *testing.T) {
	r, s := hear(t, "239.1.1.1:0", ReceiverOptions{}), openAt(t, at127(2))
	r.inbox = newInbox(make([]byte, 4*slotSpace))
	for i := range r.inbox.slots {
		r.inbox.slots[i].payload.SetLen(10)
	}
	send(t, s, r.Group(), "as it should", "too long for it", "fits")
	// inbox stays in use for as long as there are datagrams.
	var batch [8]Datagram
	n, err := r.Receive(batch[:])
	if d := cmp.Diff([]string{"fits"}, payloads(batch[:n])); d != "" || err != nil {
		t.Errorf("%v; want -, got +:\n%s", err, d)
	}
	r.inbox = nil // not for others
	if drops, err := r.KernelDrops(); drops != 2 || err != nil {
		t.Errorf("%d drops, %v", drops, err)
	}
}

// What was in a slot before does not say where the next datagram arrived.
func TestADatagramWithoutItsInterfaceIsNotOurs(t *testing.T) {
	in := newInbox(make([]byte, slotSpace))
	a := &in.slots[0].arrival
	mark := func(level, kind int32, given int) int {
		a.header.Level, a.header.Type = level, kind
		a.info[0], a.info[16] = 4, 6
		in.headers[0].Hdr.SetControllen(given)
		return in.index(0)
	}
	for _, tt := range []struct {
		level, kind int32
		given, want int
	}{
		{0, 8, 28, 4},   // IP_PKTINFO
		{41, 50, 36, 6}, // IPV6_PKTINFO
		{0, 8, 0, 0},    // none came
		{41, 50, 28, 0}, // too short
		{1, 29, 32, 0},  // something else
	} {
		if got := mark(tt.level, tt.kind, tt.given); got != tt.want {
			t.Errorf("%+v: index %d", tt, got)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The system lets a socket name 10 sources (net.ipv4.igmp_max_msf).
func TestAnyNumberOfSourcesCanBeNamed(t *testing.T) {
	before := openFiles(t)
	var sources []netip.Addr
	for i := range 50 {
		sources = append(sources, netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + i)}))
	}
	r := hear(t, "232.1.1.1:0", ReceiverOptions{Sources: sources})
	// With an any-source member on the host the kernel takes in what anybody sends.
	anybody := hear(t, r.Group().String(), ReceiverOptions{})
	stranger, first, last := openAt(t, at127(9)), openAt(t, at127(10)), openAt(t, at127(59))
	check := func(when string) {
		t.Helper()
		send(t, stranger, r.Group(), "no")
		send(t, first, r.Group(), "first")
		send(t, last, r.Group(), "last")
		send(t, stranger, r.Group(), "no")
		if d := cmp.Diff([]string{"first", "last"}, payloads(next(t, r, 2))); d != "" {
			t.Errorf("%s: want -, got +:\n%s", when, d)
		}
		if d := cmp.Diff([]string{"no", "first", "last", "no"}, payloads(next(t, anybody, 4))); d != "" {
			t.Errorf("%s: from anybody: want -, got +:\n%s", when, d)
		}
	}
	check("at first")
	if err := r.Rejoin(); err != nil {
		t.Fatal(err)
	}
	check("joined again")
	quiet(t, r, first)
	for _, c := range []interface{ Close() error }{r, anybody, stranger, first, last} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := openFiles(t); after > before+1 { // the poller's may have come
		t.Errorf("%d files are open after Close, %d before", after, before)
	}
}

func TestRejoinAfterCloseIsRefused(t *testing.T) {
	for _, sources := range [][]netip.Addr{nil, {netip.MustParseAddr("127.0.0.2")}} {
		r := hear(t, "239.1.1.1:0", ReceiverOptions{Sources: sources})
		r.Close()
		if err := r.Rejoin(); !errors.Is(err, net.ErrClosed) || errors.Is(err, ErrPending) {
			t.Errorf("from %v: %v", sources, err)
		}
		if _, err := r.KernelDrops(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("drops: %v", err)
		}
	}
}

// What has arrived is not lost by it, and what arrives afterwards is heard.
func TestRejoinKeepsWhatHasArrived(t *testing.T) {
	r, s := hear(t, "239.1.1.1:0", ReceiverOptions{}), openAt(t, at127(2))
	send(t, s, r.Group(), "before")
	for range 3 {
		if err := r.Rejoin(); err != nil {
			t.Fatal(err)
		}
	}
	send(t, s, r.Group(), "after")
	if d := cmp.Diff([]string{"before", "after"}, payloads(next(t, r, 2))); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

func TestListenSaysThatTheInterfaceIsGone(t *testing.T) {
	group := netip.MustParseAddrPort("239.1.1.7:45999")
	_, err := Listen(ReceiverOptions{Group: group}, Interface{Name: "iso0", Index: 1 << 30})
	if want := "listen to 239.1.1.7:45999 on iso0: interface iso0 is gone: "; !errors.Is(err, ErrPending) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("an interface that is gone: %v", err)
	}
	if _, err := Listen(ReceiverOptions{Group: netip.MustParseAddrPort("239.1.1.7:0")}, lo); !errors.Is(err, ErrBadGroup) {
		t.Errorf("no port: %v", err)
	}
}

// Where others have all inboxes, and all that there may be for long datagrams, one more of
// these stays with the kernel until something is given back; short ones go on.
func TestLongDatagramsThatAreHeldUpTakeBoundedMemory(t *testing.T) {
	settleInboxes(t)
	var others []*inbox
	for range cap(large) + cap(small) {
		in, _ := getInbox(0, false)
		others = append(others, in)
	}
	defer func() {
		for _, in := range others {
			in.put()
		}
	}()
	s, payload := openAt(t, at127(2)), strings.Repeat("x", 60_000)
	var held []*Receiver
	for i := range maxLong {
		r := hear(t, fmt.Sprintf("239.1.2.%d:0", i), ReceiverOptions{})
		send(t, s, r.Group(), payload)
		next(t, r, 1)
		held = append(held, r)
	}
	if len(long) != 0 {
		t.Fatalf("there may be %d more", len(long))
	}
	type received struct {
		payloads []string
		err      error
	}
	receive := func(r *Receiver) chan received {
		got := make(chan received, 1)
		go func() {
			batch := make([]Datagram, 1)
			n, err := r.Receive(batch)
			got <- received{payloads(batch[:n]), err}
		}()
		return got
	}
	closed, waits, short := hear(t, "239.1.3.1:0", ReceiverOptions{}), hear(t, "239.1.3.2:0", ReceiverOptions{}), hear(t, "239.1.3.3:0", ReceiverOptions{})
	for _, r := range []*Receiver{closed, waits} {
		send(t, s, r.Group(), payload)
	}
	send(t, s, short.Group(), "short")
	first := receive(closed)
	if got := <-receive(short); !slices.Equal(got.payloads, []string{"short"}) || got.err != nil {
		t.Errorf("a short one: %q, %v", got.payloads, got.err)
	}
	closed.Close()
	if got := <-first; !errors.Is(got.err, net.ErrClosed) {
		t.Errorf("one that is closed while it waits: %d datagrams, %v", len(got.payloads), got.err)
	}
	second := receive(waits)
	held[0].release()
	if got := <-second; !slices.Equal(got.payloads, []string{payload}) || got.err != nil {
		t.Errorf("one that has waited: %d datagrams, %v", len(got.payloads), got.err)
	}
	waits.release()
	for _, r := range held[1:] {
		r.release()
	}
	short.release()
	if len(long) != maxLong {
		t.Errorf("there may be %d long ones when all is given back, want %d", len(long), maxLong)
	}
}

// Where long datagrams come among short ones, more and more of an inbox becomes real; what is
// too much of that is given back, while it is in use and afterwards.
func TestLongDatagramsTakeLittleMemory(t *testing.T) {
	settleInboxes(t)
	r, s := hear(t, "239.1.2.3:0", ReceiverOptions{}), openAt(t, at127(2))
	batch := make([]Datagram, MaxReceive)
	long, in := strings.Repeat("x", 65_000), (*inbox)(nil)
	for round := range 20 {
		want := append(slices.Repeat([]string{"short"}, round), long)
		send(t, s, r.Group(), want...)
		for got := 0; got < len(want); {
			n, err := r.Receive(batch)
			if err != nil || !slices.Equal(payloads(batch[:n]), want[got:got+n]) {
				t.Fatalf("round %d: %d received, or other ones, %v", round, n, err)
			}
			got += n
			if in = r.inbox; in.real > maxTaken+len(long) {
				t.Errorf("round %d: %d bytes are real", round, in.real)
			}
		}
	}
	if is := inMemory(t, in); is < len(long) || is > in.real+MaxReceive*ordinary+MaxReceive*os.Getpagesize() {
		t.Errorf("%d bytes are real, %d as it says", is, in.real)
	}
	if in.giveBack(0); in.real != 0 || inMemory(t, in) != 0 {
		t.Errorf("%d bytes are kept, %d as it says", inMemory(t, in), in.real)
	}
}

// Of long datagrams a call takes fewer, and as many as ever when they are short again.
func TestOfLongDatagramsACallTakesFewer(t *testing.T) {
	var n intake
	n.adapt(MaxReceive, MaxReceive*1000)
	if n.limit != 0 {
		t.Errorf("of short ones it takes %d", n.limit)
	}
	n.adapt(MaxReceive, MaxReceive*MaxPayload)
	if most := maxTaken / MaxPayload; n.limit != most {
		t.Errorf("of the longest ones it takes %d, want %d", n.limit, most)
	}
	n.adapt(n.limit, n.limit*MaxPayload)
	n.adapt(1, 1) // there were no more
	if most := maxTaken / MaxPayload; n.limit != most {
		t.Errorf("of the longest ones it goes on to take %d, want %d", n.limit, most)
	}
	for range 3 {
		n.adapt(n.limit, n.limit*1000)
	}
	if n.limit != 0 {
		t.Errorf("of short ones it takes %d then", n.limit)
	}
}

// inMemory is how much of an inbox's payloads is in memory (mincore(2)).
func inMemory(t *testing.T, in *inbox) (bytes int) {
	t.Helper()
	page := os.Getpagesize()
	pages := make([]byte, (len(in.payloads)+page-1)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&in.payloads[0])), uintptr(len(in.payloads)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		bytes += int(p&1) * page
	}
	return bytes
}
