package multicast

import (
	"bytes"
	"encoding/binary"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// wholeQueues are the queueing disciplines that take what they are given whole or
// not at all. The others may cut a segmented send up, keep some of its datagrams,
// drop the rest, and report success: sch_tbf, sch_cake, sch_taprio, sch_netem and
// sch_dualpi2 of Linux do, and what is not known here is taken to.
var wholeQueues = map[string]bool{
	"noqueue": true, "pfifo_fast": true, "pfifo": true, "bfifo": true, "pfifo_head_drop": true,
	"fq": true, "fq_codel": true, "fq_pie": true, "codel": true, "pie": true, "red": true, "gred": true,
	"sfq": true, "sfb": true, "choke": true, "hhf": true, "skbprio": true, "plug": true,
	"mq": true, "mqprio": true, "multiq": true, "prio": true, "ets": true, "drr": true, "qfq": true,
	"htb": true, "hfsc": true, "cbs": true, "etf": true,
	"ingress": true, "clsact": true, // of what comes in
}

// cuttingQueues returns, by interface, a discipline that cuts segmented sends up,
// whether it is the root or stands below another. Interfaces that send through
// others have those of these too. It returns what is known if not all is.
func cuttingQueues(links []netlink.Link) map[int]string {
	found, _ := dump(qdiscs) // a kernel without disciplines (EOPNOTSUPP) has none that cuts
	own := make(map[int]string)
	for _, q := range found {
		if !wholeQueues[q.kind] {
			own[q.index] = q.kind
		}
	}
	if len(own) == 0 {
		return nil
	}
	below := through(links)
	all := make(map[int]string)
	for _, l := range links {
		if kind := cutting(l.Attrs().Index, own, below, 0); kind != "" {
			all[l.Attrs().Index] = kind
		}
	}
	return all
}

// through tells for each interface which others it sends through.
func through(links []netlink.Link) map[int][]int {
	below := make(map[int][]int)
	for _, l := range links {
		la := l.Attrs()
		if la.ParentIndex != 0 && la.NetNsID < 0 && l.Type() != "veth" { // a veth's is its other end
			below[la.Index] = append(below[la.Index], la.ParentIndex) // VLAN, macvlan, ipvlan …
		}
		if la.MasterIndex != 0 {
			below[la.MasterIndex] = append(below[la.MasterIndex], la.Index) // bond, team, bridge
		}
	}
	return below
}

// deepest is how many interfaces may be on top of each other (MAX_NEST_DEV).
const deepest = 8

func cutting(index int, own map[int]string, below map[int][]int, depth int) string {
	if kind := own[index]; kind != "" || depth == deepest {
		return kind
	}
	for _, b := range below[index] {
		if kind := cutting(b, own, below, depth+1); kind != "" {
			return kind
		}
	}
	return ""
}

// qdisc is a queueing discipline of an interface.
type qdisc struct {
	index   int // of the interface
	kind    string
	backlog uint32 // packets that wait in it
}

// qdiscs lists those of all interfaces. To ask for those of one, older kernels list all.
func qdiscs() (found []qdisc, err error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
	request.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL})
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if len(m) < nl.SizeofTcMsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[nl.SizeofTcMsg:])
		if err != nil {
			return found, err
		}
		q := qdisc{index: int(nl.DeserializeTcMsg(m).Ifindex)}
		for _, a := range attributes {
			// struct tc_stats: 64 bits of bytes, then 32 each of packets, drops, overlimits,
			// bps, pps, qlen and backlog
			const qlen = 8 + 5*4
			switch {
			case a.Attr.Type == nl.TCA_KIND:
				q.kind = string(bytes.TrimRight(a.Value, "\x00"))
			case a.Attr.Type == nl.TCA_STATS && len(a.Value) >= qlen+4:
				q.backlog = binary.NativeEndian.Uint32(a.Value[qlen:])
			}
		}
		found = append(found, q)
	}
	return found, nil
}

// hearNoOther has a socket of RTNLGRP_TC and of the groups for routes keep what is said
// of disciplines and of routes for groups, and drop the rest: filters, classes, actions
// and other routes may change thousands of times a second.
func hearNoOther(fd int) error {
	// A load takes the bytes in the network's order; the kernel wrote them in its own.
	swapped := func(kind uint16) uint32 {
		return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, kind)))
	}
	const dst = unix.SizeofNlMsghdr + unix.SizeofRtMsg // where the attributes of a route begin
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2}, // nlmsg_type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: swapped(unix.RTM_NEWROUTE), SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: swapped(unix.RTM_DELROUTE), SkipTrue: 9},
		// Of routes those for groups: a router has others come and go by the thousand.
		bpf.LoadConstant{Dst: bpf.RegX, Val: unix.RTA_DST},
		bpf.LoadConstant{Dst: bpf.RegA, Val: dst},
		bpf.LoadExtension{Num: bpf.ExtNetlinkAttr},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 4}, // a default route
		bpf.TAX{},
		bpf.LoadIndirect{Off: unix.SizeofRtAttr, Size: 1},          // the first byte of the prefix
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 224, SkipTrue: 1},  // ff00::/8 is above
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0xfe, SkipTrue: 1}, // fe80::/10
		bpf.RetConstant{Val: 0},
	}
	unwanted := []uint16{
		unix.RTM_NEWTCLASS, unix.RTM_DELTCLASS, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER,
		unix.RTM_NEWACTION, unix.RTM_DELACTION, unix.RTM_NEWCHAIN, unix.RTM_DELCHAIN,
	}
	program = append(program, bpf.LoadAbsolute{Off: 4, Size: 2})
	for i, kind := range unwanted {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: swapped(kind), SkipTrue: uint8(len(unwanted) - i)})
	}
	program = append(program, bpf.RetConstant{Val: 1 << 20}, bpf.RetConstant{Val: 0})
	return attach(fd, program)
}
