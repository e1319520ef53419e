package multicast

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// nextHop asks the routes of the interface, as the sockets that send to hosts do (pinHosts).
func (w *carrierState) nextHop(src Source, host netip.Addr) netip.Addr {
	if now, ok := w.querier.query(src.Index); !ok || now.flags&(unix.IFF_NOARP|unix.IFF_LOOPBACK|unix.IFF_POINTOPOINT) != 0 {
		return netip.Addr{}
	}
	// A rule of the routes may ask for the source (ip-rule(8)). But with one, IPv6 may look
	// at other interfaces too.
	hop, on := w.querier.route(src.Index, host, src.Addr)
	if on != src.Index {
		hop, on = w.querier.route(src.Index, host, netip.Addr{})
	}
	if on != src.Index {
		return netip.Addr{}
	}
	return hop
}

// NextHop is whom a sender for hosts opened at the source would have the kernel ask for on the
// link, to reach a host: see Sender.NextHop.
func (s Source) NextHop(host netip.Addr) netip.Addr {
	q := findQuerier()
	defer q.release()
	return (&carrierState{querier: q}).nextHop(s, host)
}

// reach asks for a neighbour. Before Linux 5.0 a single one cannot be asked for.
func (w *carrierState) reach(index int, hop netip.Addr) Reach { return w.querier.neighbour(index, hop) }

// route asks for the next hop to a host, and the interface it is on; 0: there is none, or it is
// no single host.
func (a *rtnlQuerier) route(index int, host, source netip.Addr) (hop netip.Addr, on int) {
	b := make([]byte, 0, 96)
	b = append(b, family4or6(host), byte(host.BitLen()), byte(sourceBits(source)), 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
	b = appendAttribute(b, unix.RTA_DST, host.AsSlice())
	b = appendAttribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	if source.IsValid() {
		b = appendAttribute(b, unix.RTA_SRC, source.AsSlice())
	}
	const kindAt = 7 // rtm_type
	a.ask(unix.RTM_GETROUTE, b, func(kind uint16, body []byte) {
		if kind != unix.RTM_NEWROUTE || len(body) < unix.SizeofRtMsg || body[kindAt] != unix.RTN_UNICAST {
			return
		}
		hop = host
		attributes(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			switch {
			case kind == unix.RTA_OIF && len(value) == 4:
				on = int(binary.NativeEndian.Uint32(value))
			case kind == unix.RTA_GATEWAY:
				hop, _ = netip.AddrFromSlice(value)
			case kind == unix.RTA_VIA && len(value) > 2: // struct rtvia: of the other family
				hop, _ = netip.AddrFromSlice(value[2:])
			}
		})
	})
	return hop, on
}

func sourceBits(source netip.Addr) int {
	if !source.IsValid() {
		return 0
	}
	return source.BitLen()
}

func family4or6(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// neighbour asks for the state of one (struct ndmsg of linux/neighbour.h).
func (a *rtnlQuerier) neighbour(index int, hop netip.Addr) (r Reach) {
	b := make([]byte, 12, 48)
	b[0] = family4or6(hop)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	b = appendAttribute(b, unix.NDA_DST, hop.AsSlice())
	a.ask(unix.RTM_GETNEIGH, b, func(kind uint16, body []byte) {
		const state = 8
		switch order := binary.NativeEndian; {
		case kind == unix.NLMSG_ERROR && len(body) >= 4 && unix.Errno(-int32(order.Uint32(body))) == unix.ENOENT:
			r = ReachNone
		case kind == unix.RTM_NEWNEIGH && len(body) > state+1:
			r = reachOf(order.Uint16(body[state:]))
		}
	})
	return r
}

func reachOf(state uint16) Reach {
	switch {
	case state&unix.NUD_INCOMPLETE != 0:
		return ReachIncomplete
	case state&unix.NUD_FAILED != 0:
		return ReachFailed
	case state == unix.NUD_NONE:
		return ReachNone
	}
	return ReachKnown
}

// ask makes a request, and hands its answer on, which is there at once: see query. Where there is
// none, read is not called.
func (a *rtnlQuerier) ask(kind uint16, body []byte, read func(kind uint16, body []byte)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	order := binary.NativeEndian
	request := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+96)
	order.PutUint32(request[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	order.PutUint16(request[4:], kind)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST)
	order.PutUint32(request[8:], a.number)
	if _, err := unix.Write(a.fd, append(request, body...)); err != nil {
		return
	}
	for {
		n, err := unix.Read(a.fd, a.response[:])
		if err != nil {
			return
		}
		if m := a.response[:n]; n >= unix.SizeofNlMsghdr && order.Uint32(m[8:]) == a.number {
			read(order.Uint16(m[4:]), m[unix.SizeofNlMsghdr:])
			return
		}
	}
}

func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return append(b, value...) // of four bytes or sixteen, so that the next begins where it has to
}

// attributes calls f for each attribute of a message.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
