package netlab

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Capture keeps the frames that came in on an interface, or those that left by it.
type Capture struct {
	t    T
	host *Host
	dev  string
	link int
	sent bool
	file *os.File

	mu        sync.Mutex
	changed   *sync.Cond
	frames    []Frame
	datagrams []Frame
	parts     reassembly
	marks     map[uint64]bool // those that came, see Settle
}

// Capture starts to capture on an interface, until the end of the test.
func (h *Host) Capture(dev string) *Capture {
	h.t.Helper()
	return h.capture(dev, false)
}

// CaptureSent captures what leaves by an interface, in the order in which it does, which
// behind a veth may be another: the frames are those that the driver is given.
func (h *Host) CaptureSent(dev string) *Capture {
	h.t.Helper()
	return h.capture(dev, true)
}

func (h *Host) capture(dev string, sent bool) *Capture {
	h.t.Helper()
	c := &Capture{t: h.t, host: h, dev: dev, link: h.Index(dev), sent: sent, parts: reassembly{}, marks: map[uint64]bool{}}
	c.changed = sync.NewCond(&c.mu)
	err := h.Do(func() (err error) {
		c.file, err = packetSocket(c.link, unix.ETH_P_ALL)
		return err
	})
	h.must(err, "capture on", dev)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	h.t.Cleanup(func() {
		if n := c.dropped(); n > 0 {
			h.t.Errorf("netlab: the capture on %s:%s lost %d frames and proves nothing", h.name, dev, n)
		}
		c.file.Close()
		<-done
	})
	return c
}

// packetSocket opens a socket for raw frames of an interface (packet(7)), in
// the calling thread's namespace.
func packetSocket(link int, protocol uint16) (*os.File, error) {
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	// Protocol 0 at first: nothing is queued before the socket is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	bigBuffer(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "packet socket"), nil
}

// bigBuffer gives a socket as large a receive buffer as it can get.
func bigBuffer(fd int) {
	const bytes = 32 << 20
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN in the first user
	// namespace; the other form is cut to the limit without a word.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
	}
}

func (c *Capture) read() {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<17)
	for {
		var n int
		var from unix.Sockaddr
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, recvErr = unix.Recvfrom(int(fd), buf, 0)
			return recvErr != unix.EAGAIN
		})
		if err != nil {
			return // closed
		}
		if recvErr != nil {
			continue // ENETDOWN, once for each time the interface goes down
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && (ll.Pkttype == unix.PACKET_OUTGOING) == c.sent {
			c.add(buf[:n])
		}
	}
}

func (c *Capture) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	if mark, ok := readMark(b); ok {
		c.marks[mark] = true
		return
	}
	f, ok := decode(append([]byte(nil), b...))
	if !ok {
		return
	}
	c.frames = append(c.frames, f)
	if f.Fragments == 0 {
		f, ok = c.parts.add(f)
	}
	if ok && f.UDP() {
		c.datagrams = append(c.datagrams, f)
	}
}

// Frames returns the IP packets captured so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[:len(c.frames):len(c.frames)]
}

// Datagrams returns the UDP datagrams captured so far, whole: fragments have
// been put together. Multicast DNS and the like do not occur, for no host of a
// lab runs anything by itself.
func (c *Capture) Datagrams() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.datagrams[:len(c.datagrams):len(c.datagrams)]
}

// WaitFor waits until n datagrams that satisfy want have come in since the
// capture began, and returns all of those. A nil want takes any.
func (c *Capture) WaitFor(n int, want func(Frame) bool) []Frame {
	c.t.Helper()
	var got []Frame
	seen := 0
	ok := waitOn(c.changed, func() bool {
		got = append(got, filter(c.datagrams[seen:], want)...)
		seen = len(c.datagrams)
		return len(got) >= n
	})
	if !ok {
		c.t.Fatalf("%s:%s: %d datagrams came, %d wanted; seen:\n%s", c.host.name, c.dev, len(got), n, list(c.Frames()))
	}
	return got
}

// WaitForFrame waits for an IP packet that satisfies want, such as an IGMP
// report, and returns the first.
func (c *Capture) WaitForFrame(want func(Frame) bool) Frame {
	c.t.Helper()
	var got []Frame
	seen := 0
	ok := waitOn(c.changed, func() bool {
		got = filter(c.frames[seen:], want)
		seen = len(c.frames)
		return len(got) > 0
	})
	if !ok {
		c.t.Fatalf("%s:%s: the frame waited for did not come; seen:\n%s", c.host.name, c.dev, list(c.Frames()))
	}
	return got[0]
}

// dropped returns the number of frames that found no room in the socket. The
// kernel counts from zero again with each call.
func (c *Capture) dropped() (n int) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = int(s.Drops)
		}
	})
	return n
}

// None settles the capture and fails the test for every datagram in it that
// satisfies bad. A nil bad takes any.
func (c *Capture) None(bad func(Frame) bool) {
	c.t.Helper()
	c.Settle()
	if n := c.dropped(); n > 0 {
		c.t.Errorf("netlab: the capture on %s:%s lost %d frames and proves nothing", c.host.name, c.dev, n)
	}
	if got := filter(c.Datagrams(), bad); len(got) > 0 {
		c.t.Errorf("%s:%s: datagrams that should not be there:\n%s", c.host.name, c.dev, list(got))
	}
}

func filter(frames []Frame, want func(Frame) bool) []Frame {
	var got []Frame
	for _, f := range frames {
		if want == nil || want(f) {
			got = append(got, f)
		}
	}
	return got
}

func list(frames []Frame) string {
	const most = 20
	var b strings.Builder
	for i, f := range frames {
		if i == most {
			fmt.Fprintf(&b, "  … %d more\n", len(frames)-most)
			break
		}
		fmt.Fprintf(&b, "  %v\n", f)
	}
	if len(frames) == 0 {
		return "  nothing"
	}
	return b.String()
}
