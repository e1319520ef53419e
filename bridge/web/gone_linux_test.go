package web

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel ends what nobody acknowledges any more.
func TestAConnectionEndsWhenTheOtherSideIsGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	on := newConnections(l, 1)
	defer on.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := on.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*connection).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
	if want := int(writePatience.Milliseconds()); err != nil || got != want {
		t.Errorf("TCP_USER_TIMEOUT is %d ms (%v), want %d", got, err, want)
	}
}
