package frame

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// maxMembers is how many groups of one report are read.
const maxMembers = 256

// Member is what a report says of one group.
type Member struct {
	Group   netip.Addr
	Sources []netip.Addr // only from these; none: from anybody, or from all but some
	Leaving bool
}

// Query is what a querier asks: who has joined a group, or any.
type Query struct {
	Version  int           // of IGMP 1 to 3, of MLD 1 or 2
	Group    netip.Addr    // the zero Addr: any, a general query
	Response time.Duration // within which it is to be answered
	Interval time.Duration // from one general query to the next; 0: it does not say
}

// igmp reads a query or report of IGMP version 1 (RFC 1112), 2 (RFC 2236, 2) or 3 (RFC 3376, 4).
// It returns nothing for what is of no group.
func igmp(b []byte) (members []Member, query *Query) {
	if len(b) < 8 {
		return nil, nil
	}
	switch g := netip.AddrFrom4([4]byte(b[4:8])); b[0] {
	case 0x11:
		const tenth = time.Second / 10
		q := &Query{Version: 2, Response: time.Duration(b[1]) * tenth}
		switch {
		case len(b) >= 12:
			q.Version, q.Response, q.Interval = 3, time.Duration(coded(uint16(b[1]), 8))*tenth, time.Duration(coded(uint16(b[9]), 8))*time.Second
		case b[1] == 0:
			q.Version, q.Response = 1, 10*time.Second
		}
		return nil, q.of(g)
	case 0x12, 0x16, 0x17:
		if g.IsMulticast() {
			members = []Member{{Group: g, Leaving: b[0] == 0x17}}
		}
	case 0x22:
		members = records(b[8:], int(binary.BigEndian.Uint16(b[6:])), 4)
	}
	return members, nil
}

// mld reads a query or report of MLD version 1 (RFC 2710, 3) or 2 (RFC 3810, 5). It reports
// whether it is of MLD at all.
func mld(b []byte) (members []Member, query *Query, ok bool) {
	if len(b) < 8 {
		return nil, nil, false
	}
	switch b[0] {
	case 130, 131, 132:
		if len(b) < 24 {
			return nil, nil, false
		}
		g := netip.AddrFrom16([16]byte(b[8:24]))
		if b[0] == 130 {
			code := binary.BigEndian.Uint16(b[4:])
			q := &Query{Version: 1, Response: time.Duration(code) * time.Millisecond}
			if len(b) >= 28 {
				q.Version, q.Response, q.Interval = 2, time.Duration(coded(code, 16))*time.Millisecond, time.Duration(coded(uint16(b[25]), 8))*time.Second
			}
			return nil, q.of(g), true
		}
		if g.IsMulticast() {
			members = []Member{{Group: g, Leaving: b[0] == 132}}
		}
		return members, nil, true
	case 143:
		return records(b[8:], int(binary.BigEndian.Uint16(b[6:])), 16), nil, true
	}
	return nil, nil, false
}

// of has a query be about a group; about what is none there is no query.
func (q *Query) of(g netip.Addr) *Query {
	if g.IsMulticast() {
		q.Group = g
	} else if !g.IsUnspecified() {
		return nil
	}
	return q
}

// coded reads a time of so many bits, of which large ones are floating point (RFC 3376, 4.1.1;
// RFC 3810, 5.1.3).
func coded(n uint16, bits int) int {
	mantissa := bits - 4
	if n>>(bits-1) == 0 {
		return int(n)
	}
	return (int(n)&(1<<mantissa-1) | 1<<mantissa) << (int(n)>>mantissa&7 + 3)
}

// records reads n group records (RFC 3376, 4.2.4; RFC 3810, 5.2.4) with addresses of so many
// bytes. Of a report that is cut short it returns what was there.
func records(b []byte, n, size int) (members []Member) {
	for range min(n, maxMembers) {
		if len(b) < 4+size {
			break
		}
		kind, sources, aux := b[0], int(binary.BigEndian.Uint16(b[2:])), int(b[1])*4
		m := Member{Group: address(b[4 : 4+size])}
		b = b[4+size:]
		if len(b) < sources*size+aux {
			break
		}
		var listed []netip.Addr
		for i := range min(sources, maxMembers) {
			listed = append(listed, address(b[i*size:(i+1)*size]))
		}
		b = b[sources*size+aux:]
		if !m.Group.IsMulticast() {
			continue
		}
		switch kind {
		case 1, 3: // MODE_IS_INCLUDE, CHANGE_TO_INCLUDE_MODE: of nobody is leaving
			m.Sources, m.Leaving = listed, len(listed) == 0
		case 5: // ALLOW_NEW_SOURCES
			m.Sources = listed
		case 2, 4: // EXCLUDE: from all but these
		default: // BLOCK_OLD_SOURCES says nothing of who listens
			continue
		}
		members = append(members, m)
	}
	return members
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
