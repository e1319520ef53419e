package session

import (
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheKernelWatchesTheConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := (&Session{}).dial(t.Context(), &url.URL{Scheme: "mqtt", Host: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]int{}
	err = raw.Control(func(fd uintptr) {
		options["TCP_USER_TIMEOUT"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		options["TCP_NOTSENT_LOWAT"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		options["SO_KEEPALIVE"], _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		options["TCP_KEEPIDLE"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
	})
	if err != nil {
		t.Fatal(err)
	}
	if options["TCP_USER_TIMEOUT"] != 20_000 || options["TCP_NOTSENT_LOWAT"] != 128<<10 || options["SO_KEEPALIVE"] != 1 || options["TCP_KEEPIDLE"] != 10 {
		t.Errorf("options %v", options)
	}
}

// The loopback interface carries more in 100 ms than the least that is kept.
func TestTheKernelKeepsAsMuchAsTheLineCarries(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	conn, err := (&Session{}).dial(t.Context(), &url.URL{Scheme: "mqtt", Host: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	l := testConn(conn, &inbox{}, newOutbox(1))
	defer l.end()
	kept := func() (n int) {
		if err := l.unsent.raw.Control(func(fd uintptr) {
			n, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	l.lock()
	defer l.unlock()
	for deadline := time.Now().Add(10 * time.Second); kept() <= minUnsent; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are kept", kept())
		}
		if _, err := l.write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsKeptUnsent(t *testing.T) {
	for rate, want := range map[uint64]int{0: 128 << 10, 8e3: 128 << 10, 12.5e6: 1.25e6, 1e9: 4 << 20} {
		if got := unsentAt(rate); got != want {
			t.Errorf("at %d bytes a second: %d, want %d", rate, got, want)
		}
	}
}
