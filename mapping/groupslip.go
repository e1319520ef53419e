package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var (
	networkOfGroups = regexp.MustCompile(`^\[?([0-9a-fA-F.:]+?)\]?(?::([0-9]+))?/([0-9]+)\]?(?::([0-9]+))?$`) // the port before or behind the length
	shortRange      = regexp.MustCompile(`^((?:[0-9]+\.){3})([0-9]+)-([0-9]+)(:[0-9]+)?$`)
	portRange       = regexp.MustCompile(`:[0-9]+-[0-9]+$`)
)

// groupSlip knows what people write for groups elsewhere: networks, stars, URLs. It
// says what to write instead, or returns nil. several: more groups than one may stand
// there.
func groupSlip(s string, several bool) error {
	const one = "a message goes to one group: write that, or a capture in the place of what varies, as in 239.1.2.{id}:5000"
	scheme, rest, url := strings.Cut(s, "://")
	switch {
	case url:
		return fmt.Errorf("is a URL; write %s, without %s://", strings.TrimSuffix(strings.TrimPrefix(rest, "@"), "/"), scheme)
	case strings.ContainsAny(s, "“”„‘’«»"):
		return errors.New(`its quotes are not those that the format knows, " and '`)
	case strings.ContainsAny(s, ",;") && several:
		return errors.New("holds more than one; write each by itself")
	case strings.ContainsAny(s, ",;"):
		return errors.New("holds more than one; make a rule of each")
	case strings.Contains(s, "/"):
		return networkSlip(s, several, one)
	case shortRange.MatchString(s) || strings.Contains(s, "*"):
		if !several {
			return errors.New("is more than one; " + one)
		}
		text := "write the first and the last group, as in 239.255.0.1-239.255.0.63:5568"
		if m := shortRange.FindStringSubmatch(s); m != nil {
			text = "write " + m[1] + m[2] + "-" + m[1] + m[3] + m[4]
		}
		return errors.New("the range is not written whole; " + text)
	case portRange.MatchString(s):
		return errors.New("has a range of ports, and a group has one; name a group for each")
	case !several && strings.Contains(s, "-") && !strings.Contains(s, "{"):
		if _, err := parseGroupRange(s); err == nil {
			return errors.New("is a range; " + one)
		}
	}
	return nil
}

// networkSlip is groupSlip of 239.1.2.0/24 and the like.
func networkSlip(s string, several bool, one string) error {
	m := networkOfGroups.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	a, err := netip.ParseAddr(m[1])
	if err != nil && m[2] != "" { // no port: the end of an IPv6 address
		a, err = netip.ParseAddr(m[1] + ":" + m[2])
		m[2] = ""
	}
	if err != nil {
		return nil
	}
	length, err := strconv.Atoi(m[3])
	if err != nil || length > a.BitLen() {
		return fmt.Errorf("has its port after a /; write %s", strings.TrimSuffix(netip.AddrPortFrom(a, 0).String(), "0")+m[3])
	}
	p := netip.PrefixFrom(a, length).Masked()
	if err := groupTarget.check(a, a.String()); err != nil {
		return err
	}
	if !several {
		return errors.New("is a network; " + one)
	}
	port := uint16(5000)
	if n, err := strconv.ParseUint(m[2]+m[4], 10, 16); err == nil && n > 0 {
		port = uint16(n)
	}
	if bits := a.BitLen() - length; bits > 12 { // maxGroups
		last := p.Addr().AsSlice()
		last[len(last)-1] = 63
		end, _ := netip.AddrFromSlice(last)
		return fmt.Errorf("is a network, and a rule listens to %d groups at most; name those that are in use, as in %s",
			maxGroups, GroupRange{First: p.Addr().Next(), Last: end, Port: port})
	}
	last := p.Addr().AsSlice()
	for bit := length; bit < a.BitLen(); bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(last)
	return fmt.Errorf("is a network; write %s", GroupRange{First: p.Addr(), Last: end, Port: port})
}
