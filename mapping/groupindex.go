package mapping

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// address is one in the layout of templates, whose order is that of the addresses.
type address [16]byte

func toAddress(a netip.Addr) (bytes address) {
	if a.Is4() {
		four := a.As4()
		copy(bytes[:], four[:])
		return bytes
	}
	return a.As16()
}

func (a *address) compare(b *address) int { return bytes.Compare(a[:], b[:]) }

// A reach is the set of groups that a send rule may send to. It may be too
// large, never too small: each byte that captures have a part in may be any.
type reach struct {
	low, high address
	wild      [16]bool // bytes that may be any
	port      uint16   // 0: may be any
	ipv6      bool
}

func (r *route) reach() *reach {
	if r.template == nil {
		a := toAddress(r.group.Addr())
		return &reach{low: a, high: a, port: r.group.Port(), ipv6: r.group.Addr().Is6()}
	}
	t := r.template
	s := &reach{low: t.address, port: t.port, ipv6: r.ipv6}
	for _, f := range t.fields {
		if f.offset == atPort {
			continue // where a template's port is 0
		}
		s.wild[f.offset] = true
		if f.max > 255 {
			s.wild[f.offset+1] = true
		}
	}
	if t.whole {
		size := 4
		if r.ipv6 {
			size = 16
		}
		for i := range size {
			s.wild[i] = true
		}
	}
	s.high = s.low
	for i, wild := range s.wild {
		if wild {
			s.high[i] = 255 // a template's address is 0 there
		}
	}
	return s
}

// meets reports whether a group of the set lies from first to last. The highest of
// the set is not below first.
func (r *reach) meets(first, last *address) bool {
	lowest := r.from(first)
	return lowest.compare(last) <= 0
}

// from returns the lowest address of the set that is not below a.
func (r *reach) from(a *address) address {
	lowest := r.low
	raise := 0 // the last wild byte that can be higher than a's
	for i, c := range a {
		switch {
		case r.wild[i]:
			lowest[i] = c
			if c < 255 {
				raise = i
			}
		case lowest[i] > c:
			return lowest // so what follows may be as low as it can
		case lowest[i] < c:
			lowest[raise]++
			copy(lowest[raise+1:], r.low[raise+1:])
			return lowest
		}
	}
	return lowest
}

// groupIndex finds the receive rules that hear a group.
type groupIndex map[groupFamily][]groupSpan

// hostRanges are the addresses that are no groups: what is sent to any of them may come to a
// host, this one or another that runs the same rules.
func hostRanges(ipv6 bool) [][2]netip.Addr {
	if ipv6 {
		return [][2]netip.Addr{{netip.IPv6Unspecified(), netip.MustParseAddr("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}}
	}
	return [][2]netip.Addr{
		{netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{223, 255, 255, 255})},
		{netip.AddrFrom4([4]byte{240}), broadcast},
	}
}

// groupFamily is what groups are divided by first.
type groupFamily struct {
	ipv6 bool
	port uint16
}

// A groupSpan is a range of groups that a receive rule listens to. Of one family
// and port they are sorted by first.
type groupSpan struct {
	first, last address
	highest     address // the highest last of those up to this one
	rule        int32
}

func newGroupIndex(rules []ReceiveRule) groupIndex {
	x := make(groupIndex)
	for i := range rules {
		for _, g := range rules[i].Groups {
			key := groupFamily{g.First.Is6(), g.Port}
			x[key] = append(x[key], groupSpan{first: toAddress(g.First), last: toAddress(g.Last), rule: int32(i)})
		}
		for j := range rules[i].Joins() {
			if !j.Host() {
				break
			}
			key := groupFamily{j.Group.Addr().Is6(), j.Group.Port()}
			for _, hosts := range hostRanges(key.ipv6) {
				x[key] = append(x[key], groupSpan{first: toAddress(hosts[0]), last: toAddress(hosts[1]), rule: int32(i)})
			}
		}
	}
	for _, list := range x {
		slices.SortFunc(list, func(a, b groupSpan) int {
			return cmp.Or(a.first.compare(&b.first), cmp.Compare(a.rule, b.rule))
		})
		for i := range list {
			list[i].highest = list[i].last
			if i > 0 && list[i-1].highest.compare(&list[i].last) > 0 {
				list[i].highest = list[i-1].highest
			}
		}
	}
	return x
}

// find returns the rules that hear a group of the set, each once, in order, as
// far as the count of steps goes.
func (x groupIndex) find(r *reach, steps *int) (rules []int32) {
	if r.port != 0 {
		rules = appendOverlaps(x[groupFamily{r.ipv6, r.port}], r, steps, nil)
	} else {
		for key, list := range x {
			*steps--
			if key.ipv6 == r.ipv6 {
				rules = appendOverlaps(list, r, steps, rules)
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

func appendOverlaps(list []groupSpan, r *reach, steps *int, rules []int32) []int32 {
	above := sort.Search(len(list), func(i int) bool { return list[i].first.compare(&r.high) > 0 })
	for i := above - 1; i >= 0 && *steps > 0 && list[i].highest.compare(&r.low) >= 0; i-- {
		*steps--
		if r.meets(&list[i].first, &list[i].last) {
			rules = append(rules, list[i].rule)
		}
	}
	return rules
}
