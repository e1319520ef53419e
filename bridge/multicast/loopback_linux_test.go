package multicast

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The tests of this file need no privilege: IPv4 multicast works over lo.

func TestDatagramsLeaveFromTheirSource(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	two, three := openAt(t, at127(2)), openAt(t, at127(3))
	send(t, two, r.Group(), "from two")
	send(t, three, r.Group(), "from three")
	send(t, two, r.Group(), "from two again")
	want := []Datagram{
		{To: r.Group(), Source: two.LocalAddr(), Payload: []byte("from two"), Interface: 1},
		{To: r.Group(), Source: three.LocalAddr(), Payload: []byte("from three"), Interface: 1},
		{To: r.Group(), Source: two.LocalAddr(), Payload: []byte("from two again"), Interface: 1},
	}
	if d := cmp.Diff(want, next(t, r, 3), cmpAddr); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	if a := two.LocalAddr().Addr().String(); a != "127.0.0.2" {
		t.Errorf("the sender says it is at %s", a)
	}
	quiet(t, r, two)
}

func TestASourceSpecificReceiverHearsItsSourcesOnly(t *testing.T) {
	r := hear(t, "232.1.1.1:0", ReceiverOptions{Sources: []netip.Addr{
		netip.MustParseAddr("127.0.0.4"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.2"), // twice does not matter
	}})
	two, three, four := openAt(t, at127(2)), openAt(t, at127(3)), openAt(t, at127(4))
	send(t, three, r.Group(), "no")
	send(t, two, r.Group(), "yes")
	send(t, three, r.Group(), "no")
	send(t, four, r.Group(), "yes too")
	if d := cmp.Diff([]string{"yes", "yes too"}, payloads(next(t, r, 2))); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	send(t, three, r.Group(), "no")
	quiet(t, r, two)
}

func TestGroupsOfOnePortDoNotMix(t *testing.T) {
	one := hear(t, "239.1.1.1:0", ReceiverOptions{})
	port := one.Group().Port()
	other := hear(t, netip.AddrPortFrom(netip.MustParseAddr("239.1.1.2"), port).String(), ReceiverOptions{})
	twin := hear(t, one.Group().String(), ReceiverOptions{})
	s := openAt(t, at127(2))
	send(t, s, other.Group(), "other")
	send(t, s, one.Group(), "one")
	for _, tt := range []struct {
		r    *Receiver
		want string
	}{{one, "one"}, {other, "other"}, {twin, "one"}} {
		if got := payloads(next(t, tt.r, 1)); got[0] != tt.want {
			t.Errorf("%s heard %q", tt.r.Group(), got)
		}
		quiet(t, tt.r, s)
	}
	// Nor does unicast to the port come in.
	c, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("unicast")); err != nil {
		t.Fatal(err)
	}
	quiet(t, one, s)
}

func TestPayloadsOfAllSizesArriveWhole(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	s := openAt(t, at127(2))
	long := make([]byte, MaxPayload+1)
	for i := range long {
		long[i] = byte(i * 7)
	}
	batch := []Datagram{
		{To: r.Group(), Payload: nil},
		{To: r.Group(), Payload: long[:MaxPayload+1]},
		{To: r.Group(), Payload: long[:MaxPayload]},
		{To: r.Group(), Payload: long[:1]},
		{To: r.Group(), Payload: long[:0]},
	}
	var failed []int
	n, err := s.Send(batch, func(i int, err error) {
		failed = append(failed, i)
		if !errors.Is(err, ErrTooLong) {
			t.Errorf("datagram %d: %v", i, err)
		}
	})
	if n != len(batch) || err != nil || !slices.Equal(failed, []int{1}) {
		t.Fatalf("sent %d, %v, failed %v", n, err, failed)
	}
	for i, d := range next(t, r, 4) {
		if want := []int{0, MaxPayload, 1, 0}[i]; !bytes.Equal(d.Payload, long[:want]) {
			t.Errorf("datagram %d: %d bytes, want these %d", i, len(d.Payload), want)
		}
	}
	quiet(t, r, s)
}

// counting has s count the entries it gives the kernel.
func counting(s *Sender) *int {
	entries := new(int)
	write := s.write
	s.write = func(ms []ipv4.Message) (int, error) {
		n, err := write(ms)
		*entries += max(n, 0)
		return n, err
	}
	return entries
}

func TestARunArrivesAsTheSameDatagramsSentSingly(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	runs, single := openAt(t, at127(2)), openAt(t, at127(2))
	single.segment = 0
	if runs.segment == 0 {
		t.Fatal("this kernel has no UDP_SEGMENT; the test shows nothing")
	}
	for _, tt := range []struct{ n, size, last, entries int }{
		{2, 1, 1, 1}, {64, 100, 100, 1}, {64, 100, 7, 1}, {65, 100, 100, 2}, {100, 1000, 1, 2}, {3, 20000, 100, 1}, {4, 20000, 20000, 2},
	} {
		var ps []string
		for i := range tt.n {
			size := tt.size
			if i == tt.n-1 {
				size = tt.last
			}
			ps = append(ps, strings.Repeat(string([]byte{byte('!' + i)}), size))
		}
		entries := counting(runs)
		send(t, runs, r.Group(), ps...)
		asRun := next(t, r, tt.n)
		if *entries != tt.entries {
			t.Errorf("%+v: %d entries", tt, *entries)
		}
		send(t, single, r.Group(), ps...)
		if d := cmp.Diff(payloads(next(t, r, tt.n)), payloads(asRun)); d != "" {
			t.Errorf("%+v: singly -, as a run +:\n%s", tt, d)
		}
		if d := cmp.Diff(ps, payloads(asRun)); d != "" {
			t.Errorf("%+v: want -, got +:\n%s", tt, d)
		}
		quiet(t, r, single)
	}
	if err := runs.SegmentationError(); err != nil {
		t.Error(err)
	}
}

func TestDatagramsOfAGroupStayInOrder(t *testing.T) {
	s := openAt(t, at127(2))
	var rs []*Receiver
	for i := range 3 {
		rs = append(rs, hear(t, fmt.Sprintf("239.1.1.%d:0", i+1), ReceiverOptions{}))
	}
	var batch []Datagram
	want := make([][]string, len(rs))
	for i := range 600 {
		// Some neighbours make runs, some do not.
		g := i / (1 + i%5) % len(rs)
		p := fmt.Sprintf("%03d%s", i, strings.Repeat(".", i%3))
		want[g] = append(want[g], p)
		batch = append(batch, Datagram{To: rs[g].Group(), Payload: []byte(p)})
	}
	if n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) }); n != len(batch) {
		t.Fatalf("sent %d: %v", n, err)
	}
	for i, r := range rs {
		if d := cmp.Diff(want[i], payloads(next(t, r, len(want[i])))); d != "" {
			t.Errorf("%s: want -, got +:\n%s", r.Group(), d)
		}
		quiet(t, r, s)
	}
}

func TestOpenSaysWhyItCannot(t *testing.T) {
	taken := openAt(t, at127(2)).LocalAddr().Port()
	for _, tt := range []struct {
		name string
		src  Source
		want string
	}{
		{"the address went away", Source{Binding: Binding{TTL: 1}, Interface: "iso0", Index: 1, Addr: netip.MustParseAddr("192.0.2.77"), MTU: 1500},
			"open a sender at 192.0.2.77 on iso0: 192.0.2.77 on iso0 is no longer there"},
		{"the interface went away", Source{Binding: Binding{TTL: 1}, Interface: "iso0", Index: 1 << 30, Addr: netip.MustParseAddr("127.0.0.2"), MTU: 1500},
			"open a sender at 127.0.0.2 on iso0: 127.0.0.2 on iso0 is no longer there"},
		{"the port is taken", Source{Binding: Binding{TTL: 1, SourcePort: taken}, Interface: "lo", Index: 1, Addr: netip.MustParseAddr("127.0.0.2"), MTU: 65536},
			fmt.Sprintf("open a sender at 127.0.0.2:%d on lo: source %s, or choose another source_port", taken, portTaken(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), taken)))},
	} {
		s, err := Open(tt.src)
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", tt.name)
		} else if err.Error() != tt.want || !errors.Is(err, ErrPending) {
			t.Errorf("%s:\n got %v (pending: %t)\nwant %s", tt.name, err, errors.Is(err, ErrPending), tt.want)
		}
	}
	// The same port of another source is another port.
	b := at127(3)
	b.SourcePort = taken
	if got := openAt(t, b).LocalAddr(); got.Port() != taken {
		t.Errorf("bound to %s", got)
	}
}

// Devices answer to where a datagram came from. Nobody reads there.
func TestASenderIsDeaf(t *testing.T) {
	s := openAt(t, at127(2))
	c, err := net.Dial("udp4", s.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 10 {
		if _, err := c.Write([]byte("reply")); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if n, _, err := unix.Recvfrom(int(fd), make([]byte, 10), unix.MSG_DONTWAIT); err != unix.EAGAIN {
			t.Errorf("a reply of %d bytes is queued (%v)", n, err)
		}
	})
}

// An ICMP error that somebody else caused is not a datagram's fault.
func TestAnImportedErrorCostsNothing(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	s := openAt(t, at127(2))
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	conn, release, err := s.pollable()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, tt := range [][]string{{"one"}, {"a run", "of two"}, {"a run ", "of two", "and ", "more"}} {
		if _, err := conn.WriteTo([]byte("x"), closed.LocalAddr()); err != nil { // provokes port unreachable
			t.Fatal(err)
		}
		send(t, s, r.Group(), tt...)
		if d := cmp.Diff(tt, payloads(next(t, r, len(tt)))); d != "" {
			t.Errorf("want -, got +:\n%s", d)
		}
	}
	if err := s.SegmentationError(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	s := openAt(t, at127(2))
	send(t, s, r.Group(), "one")
	next(t, r, 1)
	r.conn.SetReadDeadline(time.Time{})
	waiting := make(chan error)
	go func() {
		_, err := r.Receive(make([]Datagram, 1))
		waiting <- err
	}()
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("close the receiver: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close the sender: %v", err)
		}
	}
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive under way: %v", err)
	}
	if r.inbox != nil {
		t.Error("a receiver that waits keeps an inbox")
	}
	if _, err := r.Receive(make([]Datagram, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
	n, err := s.Send([]Datagram{{To: r.Group()}}, func(int, error) { t.Error("failed was called") })
	if n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %d, %v", n, err)
	}
	if err := s.Wait(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := openAt(t, at127(2))
	if err := s.Wait(t.Context()); err != nil {
		t.Errorf("there is room, but Wait says %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, pause := range []bool{true, false} {
		s.pause = pause
		if err := s.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("pause %t: %v", pause, err)
		}
	}
	// It leaves no deadline behind.
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	send(t, s, r.Group(), "one")
}

func TestListenRefuses(t *testing.T) {
	addr, group := netip.MustParseAddr, netip.MustParseAddrPort
	for _, tt := range []struct {
		o    ReceiverOptions
		want string
	}{
		{ReceiverOptions{Group: group("239.1.1.1:0")}, "listen to 239.1.1.1:0: not a group with a port"},
		{ReceiverOptions{Group: group("127.0.0.1:5000")}, "listen to 127.0.0.1:5000: not a group with a port"},
		{ReceiverOptions{Group: group("[ff02::1%lo]:5000")}, "listen to [ff02::1%lo]:5000: not a group with a port"},
		{ReceiverOptions{Group: group("239.1.1.1:5000"), Sources: []netip.Addr{addr("fd17::1")}}, "listen to 239.1.1.1:5000: source fd17::1 is not an IPv4 address to receive from"},
		{ReceiverOptions{Group: group("239.1.1.1:5000"), Sources: []netip.Addr{addr("239.1.1.1")}}, "listen to 239.1.1.1:5000: source 239.1.1.1 is not an IPv4 address to receive from"},
	} {
		r, err := Listen(tt.o, lo)
		if err == nil {
			r.Close()
			t.Errorf("%+v: listens", tt.o)
		} else if err.Error() != tt.want {
			t.Errorf("\n got %v\nwant %s", err, tt.want)
		}
	}
}

func TestKernelDropsAreCounted(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{Buffer: 4096})
	s := openAt(t, at127(2))
	const sent = 200
	for range sent {
		send(t, s, r.Group(), "x")
	}
	// All are accounted for, once the kernel has found the time to hand them over.
	heard, drops, batch := 0, 0, make([]Datagram, MaxReceive)
	for late := time.Now().Add(10 * time.Second); heard+drops < sent && time.Now().Before(late); {
		counted, err := r.KernelDrops()
		if err != nil {
			t.Fatal(err)
		}
		if drops = int(counted); drops == 0 {
			continue // nothing is read before the buffer is full
		}
		r.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, err := r.Receive(batch)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		heard += n
	}
	if heard == 0 || drops == 0 || heard+drops != sent {
		t.Fatalf("%d heard and %d dropped of %d", heard, drops, sent)
	}
	quiet(t, r, s)
}

func TestBuffersReportWhatWasGranted(t *testing.T) {
	s := openAt(t, at127(2))
	small, big := hear(t, "239.1.1.1:0", ReceiverOptions{Buffer: 65536}), hear(t, "239.1.1.2:0", ReceiverOptions{Buffer: 1 << 30})
	if small.Buffer() != 65536 {
		t.Errorf("asked for 65536 bytes, got %d", small.Buffer())
	}
	// The kernel grants neither 1 GiB nor less than its default, 208 KiB.
	if big.Buffer() < 212992 || big.Buffer() >= 1<<30 || s.Buffer() < 212992 || s.Buffer() > sendBuffer {
		t.Errorf("granted: %d to the receiver, %d to the sender", big.Buffer(), s.Buffer())
	}
}

func TestInterfacesListsLo(t *testing.T) {
	ifs, err := Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	lo := findInterface(ifs, "lo")
	if lo == nil || !lo.Up || !lo.Carrier || !lo.Loopback || lo.Index != 1 || lo.MTU != 65536 {
		t.Fatalf("lo is %+v", lo)
	}
	if a, ok := lo.owns(netip.MustParseAddr("127.0.0.1")); !ok || a.Prefix.String() != "127.0.0.1/8" || a.Secondary {
		t.Errorf("lo has %+v", lo.Addresses)
	}
	if !slices.IsSortedFunc(ifs, func(a, b Interface) int { return a.Index - b.Index }) {
		t.Errorf("not by index: %+v", ifs)
	}
}

func TestCarrierIsTheWireAndWhatIsAboveIt(t *testing.T) {
	for flags, want := range map[uint32]bool{
		unix.IFF_UP:                    false,
		unix.IFF_UP | unix.IFF_RUNNING: false, // lost just now
		unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_DORMANT: false, // not admitted yet (802.1X)
		unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING: true,
	} {
		if got := carrier(flags); got != want {
			t.Errorf("flags %#x: %t", flags, got)
		}
	}
}
