package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
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

// attach has a socket hear no more than what a program lets pass.
func attach(fd int, program []bpf.Instruction) error {
	code, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filter[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	return option("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
}

// The ends of packetFilter, which jumps lead to.
const (
	dropPacket = iota
	takePacket
	groups6
	ip6
)

// packetFilter lets the packets of a sight pass; leaving: those that leave too, which on the
// loopback interface come in again. Positions count from the IP header.
func packetFilter(what Sight, leaving bool) []bpf.Instruction {
	var p []bpf.Instruction
	jumps, ends := make(map[int]int), make(map[int]int) // from an instruction to an end; an end's place
	add := func(i ...bpf.Instruction) { p = append(p, i...) }
	jump := func(c bpf.JumpTest, value uint32, to int) {
		jumps[len(p)] = to
		add(bpf.JumpIf{Cond: c, Val: value})
	}
	end := func(is int) { ends[is] = len(p) }

	add(bpf.LoadExtension{Num: bpf.ExtType})
	if what == SightArriving || !leaving {
		jump(bpf.JumpGreaterThan, unix.PACKET_MULTICAST, dropPacket)
	} else {
		jump(bpf.JumpEqual, unix.PACKET_OTHERHOST, dropPacket)
	}
	// What is of a VLAN belongs to the VLAN's own interface.
	add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	jump(bpf.JumpNotEqual, 0, dropPacket)
	add(bpf.LoadExtension{Num: bpf.ExtProto})
	jump(bpf.JumpEqual, unix.ETH_P_IPV6, ip6)
	jump(bpf.JumpNotEqual, unix.ETH_P_IP, dropPacket)

	add(bpf.LoadAbsolute{Off: 9, Size: 1})
	jump(bpf.JumpEqual, unix.IPPROTO_IGMP, takePacket)
	if what == SightReports {
		add(bpf.RetConstant{Val: 0})
	} else {
		jump(bpf.JumpNotEqual, unix.IPPROTO_UDP, dropPacket)
		if what == SightArriving {
			add(bpf.LoadExtension{Num: bpf.ExtType})
			jump(bpf.JumpEqual, unix.PACKET_BROADCAST, takePacket)
			add(bpf.LoadAbsolute{Off: 16, Size: 1})
			jump(bpf.JumpGreaterOrEqual, 224, takePacket)
			add(bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 2, Size: 2})
			jump(bpf.JumpGreaterOrEqual, ephemeral, dropPacket)
		}
		add(bpf.RetConstant{Val: wholePacket})
	}

	end(ip6)
	add(bpf.LoadAbsolute{Off: 24, Size: 1})
	jump(bpf.JumpEqual, 0xff, groups6)
	if what != SightReports {
		add(bpf.LoadAbsolute{Off: 6, Size: 1})
		if what == SightPassing {
			jump(bpf.JumpEqual, unix.IPPROTO_FRAGMENT, takePacket)
		}
		jump(bpf.JumpNotEqual, unix.IPPROTO_UDP, dropPacket)
		if what == SightPassing {
			add(bpf.RetConstant{Val: wholePacket})
		}
		add(bpf.LoadAbsolute{Off: 42, Size: 2})
		jump(bpf.JumpLessThan, ephemeral, takePacket)
	}
	add(bpf.RetConstant{Val: 0})

	end(groups6) // datagrams, parts of them, and reports of MLD, which have options before them
	add(bpf.LoadAbsolute{Off: 6, Size: 1})
	jump(bpf.JumpEqual, unix.IPPROTO_HOPOPTS, takePacket)
	if what != SightReports {
		jump(bpf.JumpEqual, unix.IPPROTO_UDP, takePacket)
		jump(bpf.JumpEqual, unix.IPPROTO_FRAGMENT, takePacket)
	}
	end(dropPacket)
	add(bpf.RetConstant{Val: 0})
	end(takePacket)
	add(bpf.RetConstant{Val: wholePacket})
	for from, to := range jumps {
		j := p[from].(bpf.JumpIf)
		j.SkipTrue = uint8(ends[to] - from - 1)
		p[from] = j
	}
	return p
}

// wholePacket is how many bytes a filter lets through: all of any packet.
const wholePacket = 1 << 18

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
