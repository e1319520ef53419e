package mapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// A GroupRange is one group, or some whose addresses follow each other, on one port:
//
//	239.12.255.254:9522
//	239.255.0.1-239.255.0.63:5568
//	[ff18::1]:5000
//	[ff18::1-ff18::8]:5000
//
// The zero GroupRange is no group. Ranges compare with ==.
type GroupRange struct {
	First, Last netip.Addr // Last is First where there is but one
	Port        uint16     // 1 to 65535
}

// ParseGroupRange reads a group or a range of them.
func ParseGroupRange(s string) (GroupRange, error) {
	g, err := parseGroupRange(s)
	if err == nil {
		err = g.check()
	}
	if err != nil {
		if slip := groupSlip(s, true); slip != nil {
			err = slip
		}
		return GroupRange{}, fmt.Errorf("group %s: %w", quote(s), err)
	}
	return g, nil
}

func parseGroupRange(s string) (g GroupRange, err error) {
	host, port, ipv6, err := splitHostPort(s)
	switch {
	case err != nil:
		return g, err
	case strings.Contains(host, "{"):
		return g, errors.New("a group to receive from holds no {…}; write a range for several, as in 239.255.0.1-239.255.0.63:5568")
	}
	first, last, several := strings.Cut(host, "-")
	if !several {
		last = first
	}
	if g.First, err = parseEnd(first, ipv6); err != nil {
		return g, err
	}
	if g.Last, err = parseEnd(last, ipv6); err != nil {
		return g, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return g, fmt.Errorf("port %s is not 1 to 65535", quote(port))
	}
	g.Port = uint16(number)
	return g, nil
}

// parseEnd reads the first or the last address of a range.
func parseEnd(s string, ipv6 bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is6() != ipv6 {
		return netip.Addr{}, fmt.Errorf("%s is no %s address", quote(s), family(ipv6))
	}
	return a, nil
}

// check tells why the range is none of groups, or returns nil. Two groups may
// still have other addresses between them, in far more than a rule may have.
func (g GroupRange) check() error {
	for _, end := range []netip.Addr{g.First, g.Last} {
		if err := groupTarget.check(end, end.String()); err != nil {
			return err
		}
	}
	switch {
	case g.First.Is6() != g.Last.Is6():
		return fmt.Errorf("%s is %s and %s is %s", g.First, family(g.First.Is6()), g.Last, family(g.Last.Is6()))
	case g.Last.Less(g.First):
		return fmt.Errorf("the range runs backwards; write %s-%s", g.Last, g.First)
	case g.Port == 0:
		return errors.New("port 0 is not 1 to 65535")
	}
	return nil
}

// Contains reports whether a group is one of the range.
func (g GroupRange) Contains(to netip.AddrPort) bool {
	return g.Port == to.Port() && g.First.Compare(to.Addr()) <= 0 && to.Addr().Compare(g.Last) <= 0
}

// String returns the range as ParseGroupRange reads it.
func (g GroupRange) String() string {
	if g.First == g.Last {
		return netip.AddrPortFrom(g.First, g.Port).String()
	}
	hosts := g.First.String() + "-" + g.Last.String()
	if g.First.Is6() {
		hosts = "[" + hosts + "]"
	}
	return hosts + ":" + strconv.Itoa(int(g.Port))
}

// GroupsText is what a rule without a name is called: by its first groups.
func GroupsText(groups []GroupRange) string { return Listed(groups, GroupRange.String) }

// MarshalText is String.
func (g GroupRange) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is ParseGroupRange.
func (g *GroupRange) UnmarshalText(text []byte) (err error) {
	*g, err = ParseGroupRange(string(text))
	return err
}

// Len returns how many groups there are, at most the largest int; 0 where the
// range runs backwards or has two families.
func (g GroupRange) Len() int {
	if !g.First.IsValid() || g.First.Is6() != g.Last.Is6() || g.Last.Less(g.First) {
		return 0
	}
	first, last := g.First.As16(), g.Last.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(last[8:]), binary.BigEndian.Uint64(first[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(last[:]), binary.BigEndian.Uint64(first[:]), borrow)
	if high > 0 || low >= math.MaxInt {
		return math.MaxInt
	}
	return int(low) + 1
}

// All yields the groups in their order.
func (g GroupRange) All() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		if g.Len() == 0 {
			return
		}
		for a := g.First; yield(netip.AddrPortFrom(a, g.Port)) && a != g.Last; a = a.Next() {
		}
	}
}
