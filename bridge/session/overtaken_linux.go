package session

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peerState asks the kernel what became of the other end of a TCP connection, whatever
// lies unread before its FIN.
type peerState struct {
	raw    syscall.RawConn // nil: there is no TCP below
	ask    func(fd uintptr)
	poll   [1]unix.PollFd
	idle   time.Duration // since the last data came; valid where gone
	closed bool
}

// watch makes what every question needs, so that none allocates while the connection is open.
func (p *peerState) watch(conn net.Conn) {
	tcp, ok := bare(conn).(*net.TCPConn)
	if !ok {
		return
	}
	p.raw, _ = tcp.SyscallConn()
	p.ask = func(fd uintptr) {
		p.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
		if n, err := unix.Poll(p.poll[:], 0); n <= 0 || err != nil {
			return
		}
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			p.closed, p.idle = true, time.Duration(info.Last_data_recv)*time.Millisecond
		}
	}
}

// closedFor reports whether the other end has closed or reset the connection, and its
// last data came longer ago than d. It costs one poll(2).
func (p *peerState) closedFor(d time.Duration) bool {
	if p.raw == nil {
		return false
	}
	p.closed = false
	return p.raw.Control(p.ask) == nil && p.closed && p.idle > d
}

// fullWindow is less than any kernel takes before it tells the peer to wait. Less than
// that in hand, and the FIN of a peer that has closed is here too.
const fullWindow = 16 << 10

// maybeFull reports whether the n bytes that were read, with those that the kernel has
// for us, may be all that it takes.
func (p *peerState) maybeFull(n int) bool {
	return p.raw != nil && n+p.count(unix.SIOCINQ) >= fullWindow
}

// allReceived reports whether the peer's kernel has all that was written.
func (p *peerState) allReceived() bool { return p.count(unix.SIOCOUTQ) == 0 }

func (p *peerState) count(what uint) (n int) {
	_ = p.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), what) })
	return n
}
