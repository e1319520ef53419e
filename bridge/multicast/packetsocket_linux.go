package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ephemeral is the first port that Linux gives to a socket that asks for none
// (net.ipv4.ip_local_port_range). What comes to a host above it is mostly answers.
const ephemeral = 32768

// PacketSocket sees packets of IP on an interface, whoever they are for as far as its network
// lets them come. It takes nothing away from others, and sends nothing.
type PacketSocket struct {
	file *os.File
	raw  syscall.RawConn
	lost uint64
}

// OpenPacketSocket opens one. The error wraps os.ErrPermission without CAP_NET_RAW, and
// errors.ErrUnsupported outside Linux.
func OpenPacketSocket(on Interface, what Sight) (*PacketSocket, error) {
	s, err := openPacketSocket(on, what)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", on.Name, err)
	}
	return s, nil
}

func openPacketSocket(on Interface, what Sight) (*PacketSocket, error) {
	// Of protocol 0 it hears nothing until it is bound, when the filter is there. Of SOCK_DGRAM
	// packets come without the header of the link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "packet socket")
	err = errors.Join(attach(fd, packetFilter(what, !on.Loopback)), seeAllGroups(fd, on.Index))
	if err == nil && what != SightReports {
		_, err = grow(fd, unix.SO_RCVBUF, ReceiveBuffer)
	}
	if err == nil {
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: on.Index}))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &PacketSocket{file: f, raw: raw}, nil
}

// seeAllGroups has the network card take in all groups: as it comes it drops those that this
// host has not joined. It ends with the socket.
func seeAllGroups(fd, index int) error {
	return option("PACKET_MR_ALLMULTI", unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI}))
}

// Read waits for a packet and puts it into b, from its IP header on, and reports whether it
// leaves. It returns net.ErrClosed after Close.
func (s *PacketSocket) Read(b []byte) (n int, leaving bool, err error) {
	for {
		var from unix.Sockaddr
		var failed error
		err := s.raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), b, 0)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil: // of the waiting, which nothing but Close ends
			return 0, false, net.ErrClosed
		case failed == unix.ENETDOWN, failed == unix.EINTR: // ENETDOWN comes once for each time the interface goes down
			continue
		case failed != nil:
			return 0, false, fmt.Errorf("read the packet socket: %w", os.NewSyscallError("recvfrom", failed))
		}
		link, is := from.(*unix.SockaddrLinklayer)
		return n, is && link.Pkttype == unix.PACKET_OUTGOING, nil
	}
}

// Lost is how many packets found no room in the socket's buffer. It is not for several
// goroutines.
func (s *PacketSocket) Lost() uint64 {
	_ = s.raw.Control(func(fd uintptr) {
		// The kernel counts from 0 again with each call.
		if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			s.lost += uint64(stats.Drops)
		}
	})
	return s.lost
}

// Close ends a Read that waits.
func (s *PacketSocket) Close() error { return s.file.Close() }

func newUnbound(ipv6 bool) (*net.UDPConn, error) { return newUDP(ipv6, func(int) error { return nil }) }
