package session

import (
	"net"
	"net/url"
	"syscall"
	"testing"
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
		options["TCP_USER_TIMEOUT"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
		options["TCP_NOTSENT_LOWAT"], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat)
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
