package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What the address of a target is: nothing else in this package says whether an address
// is a group, and how far it reaches.

// targetKind is what a target is to be.
type targetKind uint8

const (
	groupTarget targetKind = iota // a group
	hostTarget                    // one host, or all of a network by its broadcast address
)

// String is the key that such a target has in a rule.
func (k targetKind) String() string {
	if k == hostTarget {
		return "host"
	}
	return "group"
}

func (k targetKind) errZone() error {
	return fmt.Errorf("a %s has no zone; name the interface with interface", k)
}

// check returns why an address may not be that of a target, or nil. written is how it
// stands in the rule.
func (k targetKind) check(a netip.Addr, written string) error {
	if !a.IsValid() {
		return errors.New("has no address")
	}
	if want := k.want(a); want != "" {
		return fmt.Errorf("%s is not %s", written, want)
	}
	if a.Zone() != "" {
		return k.errZone()
	}
	return nil
}

// want returns what the address of a target may be, or "" if this is one.
func (k targetKind) want(a netip.Addr) string {
	switch {
	case k == hostTarget:
		return wantHost(a)
	case a.Is4() && a.IsMulticast():
		return ""
	case a.Is4():
		return "an IPv4 multicast address, 224.0.0.0 to 239.255.255.255"
	case a.Is4In6() || !a.IsMulticast():
		return "an IPv6 multicast address, ff00::/8"
	case scope(a) == 0:
		// RFC 4291 2.7, erratum 3480: "nodes must not originate a packet" to it.
		return "an IPv6 multicast address of a scope other than 0, which is reserved and dropped by receivers"
	}
	return ""
}

// wantHost is want for a host.
func wantHost(a netip.Addr) string {
	switch {
	case a.IsMulticast():
		return "a host: it is multicast, and multicast stands in group"
	case a.Is4In6():
		return "an IPv4 address written as such: " + a.Unmap().String()
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0: // RFC 1122, 3.2.1.3
		return "an address of a host"
	}
	return ""
}

// scope returns the scope of an IPv6 group: 1 is the interface, 2 the link
// (RFC 4291 2.7).
func scope(a netip.Addr) byte { return a.As16()[1] & 0xf }

// linkLocal reports whether every group of the template is one that routers never
// forward: 224.0.0.0/24 (RFC 5771 section 4), and scopes 1 and 2 of IPv6.
func (t *template) linkLocal() bool {
	prefix := 3 // bytes that tell
	if t.ipv6 {
		prefix = 2
	}
	within := func(f field) bool { return 0 <= f.offset && f.offset < prefix }
	if t.kind != groupTarget || t.whole || slices.ContainsFunc(t.fields, within) {
		return false
	}
	if t.ipv6 {
		return scope(toAddr(t.address, true)) <= 2
	}
	return [3]byte(t.address[:3]) == [3]byte{224, 0, 0}
}

func linkLocalRange(ipv6 bool) string {
	if ipv6 {
		return "scope 2 is the link, RFC 4291 2.7"
	}
	return "224.0.0.0/24 is the link, RFC 5771 4"
}

// SourceSpecific reports whether a group is one that is joined together with a source:
// 232.0.0.0/8 or ff3x::/32 (RFC 4607 section 1).
func SourceSpecific(group netip.Addr) bool {
	if group.Is4() {
		return group.As4()[0] == 232
	}
	b := group.As16()
	return b[0] == 0xff && b[1]>>4 == 3 && b[2] == 0 && b[3] == 0
}

var errNoPort = errors.New("has no port; write address:port, as in 239.1.2.3:5000 or [ff15::1]:5000")

// splitHostPort takes address:port apart, and the brackets off.
func splitHostPort(s string) (host, port string, ipv6 bool, err error) {
	plain := withoutExpressions(s)
	i := strings.LastIndexByte(plain, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return "", "", false, errNoPort
	}
	host, port = s[:i], s[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); ok {
			return host, port, true, nil
		}
	}
	if strings.ContainsAny(plain[:i], "[]:") {
		return "", "", false, errors.New("an IPv6 address stands in brackets before its port, as in [ff15::1]:5000")
	}
	return host, port, false, nil
}

// withoutExpressions returns a text of the same length that has a 0 in the place of each
// character between { and }: json:/id and hex@0:4 hold colons.
func withoutExpressions(s string) string {
	if !strings.Contains(s, "{") {
		return s
	}
	var b strings.Builder
	for {
		before, rest, _ := strings.Cut(s, "{")
		within, after, closed := strings.Cut(rest, "}")
		if !closed {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before + "{" + strings.Repeat("0", len(within)) + "}")
		s = after
	}
}

func toAddr(address [16]byte, ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.AddrFrom16(address)
	}
	return netip.AddrFrom4([4]byte(address[:4]))
}
