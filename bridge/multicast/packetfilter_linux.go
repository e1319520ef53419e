package multicast

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

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

// The places in a packet filter that jumps lead to.
const (
	dropPacket = iota
	takePacket
	groups6
	ip6
	places
)

// wholePacket is how many bytes a filter lets through: all of any packet.
const wholePacket = 1 << 18

// packetFilter lets the packets of a sight pass; leaving: those that leave too, which on the
// loopback interface come in again. Positions count from the IP header.
func packetFilter(what Sight, leaving bool) []bpf.Instruction {
	f := filterProgram{jumps: make(map[int]int)}
	f.add(bpf.LoadExtension{Num: bpf.ExtType})
	if what == SightArriving || !leaving {
		f.jump(bpf.JumpGreaterThan, unix.PACKET_MULTICAST, dropPacket)
	} else {
		f.jump(bpf.JumpEqual, unix.PACKET_OTHERHOST, dropPacket)
	}
	// What is of a VLAN belongs to the VLAN's own interface.
	f.add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	f.jump(bpf.JumpNotEqual, 0, dropPacket)
	f.add(bpf.LoadExtension{Num: bpf.ExtProto})
	f.jump(bpf.JumpEqual, unix.ETH_P_IPV6, ip6)
	f.jump(bpf.JumpNotEqual, unix.ETH_P_IP, dropPacket)
	f.filterIPv4(what)
	f.filterIPv6(what)
	f.place(dropPacket)
	f.add(bpf.RetConstant{Val: 0})
	f.place(takePacket)
	f.add(bpf.RetConstant{Val: wholePacket})
	return f.resolved()
}

func (f *filterProgram) filterIPv4(what Sight) {
	f.add(bpf.LoadAbsolute{Off: 9, Size: 1})
	f.jump(bpf.JumpEqual, unix.IPPROTO_IGMP, takePacket)
	if what == SightReports {
		f.add(bpf.RetConstant{Val: 0})
		return
	}
	f.jump(bpf.JumpNotEqual, unix.IPPROTO_UDP, dropPacket)
	if what == SightArriving {
		f.add(bpf.LoadExtension{Num: bpf.ExtType})
		f.jump(bpf.JumpEqual, unix.PACKET_BROADCAST, takePacket)
		f.add(bpf.LoadAbsolute{Off: 16, Size: 1})
		f.jump(bpf.JumpGreaterOrEqual, 224, takePacket)
		f.add(bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 2, Size: 2})
		f.jump(bpf.JumpGreaterOrEqual, ephemeral, dropPacket)
	}
	f.add(bpf.RetConstant{Val: wholePacket})
}

// filterIPv6 is followed by dropPacket.
func (f *filterProgram) filterIPv6(what Sight) {
	f.place(ip6)
	f.add(bpf.LoadAbsolute{Off: 24, Size: 1})
	f.jump(bpf.JumpEqual, 0xff, groups6)
	if what != SightReports {
		f.add(bpf.LoadAbsolute{Off: 6, Size: 1})
		if what == SightPassing {
			f.jump(bpf.JumpEqual, unix.IPPROTO_FRAGMENT, takePacket)
		}
		f.jump(bpf.JumpNotEqual, unix.IPPROTO_UDP, dropPacket)
		if what == SightPassing {
			f.add(bpf.RetConstant{Val: wholePacket})
		}
		f.add(bpf.LoadAbsolute{Off: 42, Size: 2})
		f.jump(bpf.JumpLessThan, ephemeral, takePacket)
	}
	f.add(bpf.RetConstant{Val: 0})

	f.place(groups6) // datagrams, parts of them, and reports of MLD, which have options before them
	f.add(bpf.LoadAbsolute{Off: 6, Size: 1})
	f.jump(bpf.JumpEqual, unix.IPPROTO_HOPOPTS, takePacket)
	if what != SightReports {
		f.jump(bpf.JumpEqual, unix.IPPROTO_UDP, takePacket)
		f.jump(bpf.JumpEqual, unix.IPPROTO_FRAGMENT, takePacket)
	}
}

// filterProgram is a packet filter that is being written: its jumps lead to places, some of which are not
// known yet.
type filterProgram struct {
	code   []bpf.Instruction
	jumps  map[int]int // from an instruction to a place
	placed [places]int // which instruction is there
}

func (f *filterProgram) add(i ...bpf.Instruction) { f.code = append(f.code, i...) }

func (f *filterProgram) jump(c bpf.JumpTest, value uint32, to int) {
	f.jumps[len(f.code)] = to
	f.add(bpf.JumpIf{Cond: c, Val: value})
}

// place says that a place is before the next instruction.
func (f *filterProgram) place(is int) { f.placed[is] = len(f.code) }

// resolved is the program with the distances of its jumps.
func (f *filterProgram) resolved() []bpf.Instruction {
	for from, to := range f.jumps {
		j := f.code[from].(bpf.JumpIf)
		j.SkipTrue = uint8(f.placed[to] - from - 1)
		f.code[from] = j
	}
	return f.code
}
