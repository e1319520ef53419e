package multicast

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// host is a host of several networks:
//
//	1 lo     127.0.0.1/8, ::1
//	2 iso0   also enp3s0, 172.17.0.1/16, .9 secondary with the label iso0:1, fd17::1 and temporary fd17::f00, fe80::1
//	3 priv0  10.0.0.2/24, fd10::2, fe80::2
//	4 two0   10.1.0.1/24 and 10.2.0.1/24, 2001:db8::2 and ::3, temporary ::1
//	5 down0  set down, 192.0.2.1/24
//	6 dead0  no carrier, 192.0.2.65/26
//	7 late0  no address at all
//	8 dad0   tentative fd18::1, duplicate fd18::2, fe80::8
//	9 twin0  10.0.0.2/24 once more
//	10 auto0 169.254.7.7/16 and 192.0.2.129/26
//	11 only0 169.254.8.8/16, fe80::b
//	12 old0  deprecated 2001:db8:1::1, 2001:db8:1::5, fe80::c
//	13 ptp0  198.51.100.0/31
//	14 mix0  tentative fd19::1, fd19::2
func host() []Interface {
	second := secondary("172.17.0.9/16")
	second.Label = "iso0:1"
	return []Interface{
		{Name: "lo", Index: 1, MTU: 65536, Up: true, Carrier: true, Loopback: true, Addresses: []Address{at("127.0.0.1/8"), at("::1/128")}},
		named("enp3s0", up("iso0", 2, at("172.17.0.1/16"), second, secondary("fd17::f00/64"), at("fd17::1/64"), at("fe80::1/64"))),
		up("priv0", 3, at("10.0.0.2/24"), at("fd10::2/64"), at("fe80::2/64")),
		up("two0", 4, at("10.1.0.1/24"), at("10.2.0.1/24"), at("2001:db8::3/64"), secondary("2001:db8::1/64"), at("2001:db8::2/64")),
		{Name: "down0", Index: 5, MTU: 1500, Addresses: []Address{at("192.0.2.1/26")}},
		{Name: "dead0", Index: 6, MTU: 1500, Up: true, Addresses: []Address{at("192.0.2.65/26")}},
		up("late0", 7),
		up("dad0", 8, Address{Prefix: netip.MustParsePrefix("fd18::1/64"), Tentative: true}, Address{Prefix: netip.MustParsePrefix("fd18::2/64"), Tentative: true, Duplicate: true}, at("fe80::8/64")),
		up("twin0", 9, at("10.0.0.2/24")),
		up("auto0", 10, at("169.254.7.7/16"), at("192.0.2.129/26")),
		up("only0", 11, at("169.254.8.8/16"), at("fe80::b/64")),
		up("old0", 12, Address{Prefix: netip.MustParsePrefix("2001:db8:1::1/64"), Deprecated: true}, at("2001:db8:1::5/64"), at("fe80::c/64")),
		up("ptp0", 13, at("198.51.100.0/31")),
		up("mix0", 14, Address{Prefix: netip.MustParsePrefix("fd19::1/64"), Tentative: true}, at("fd19::2/64")),
	}
}

func up(name string, index int, as ...Address) Interface {
	return Interface{Name: name, Index: index, MTU: 1500, Up: true, Carrier: true, Addresses: as}
}

func named(name string, i Interface) Interface {
	i.AltNames = append(i.AltNames, name)
	return i
}

func at(prefix string) Address {
	a := Address{Prefix: netip.MustParsePrefix(prefix)}
	if a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 {
		a.Broadcast = lastAddr(a.Prefix)
	}
	return a
}

func secondary(prefix string) Address {
	a := at(prefix)
	a.Secondary = true
	return a
}

func labelled(prefix, label string) Address {
	a := at(prefix)
	a.Label = label
	return a
}

// bind reads a binding as a person would write it, "" for what is left out.
func bind(source, on string) Binding {
	b := Binding{Interface: on, TTL: 1, IPv6: strings.Contains(source, ":")}
	if p, err := netip.ParsePrefix(source); err == nil {
		b.Source = p
	} else if source != "" {
		a := netip.MustParseAddr(source)
		b.Source = netip.PrefixFrom(a, a.BitLen())
	}
	return b
}

func bind6(source, on string) Binding {
	b := bind(source, on)
	b.IPv6 = true
	return b
}

func TestResolveFindsTheSource(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    Binding
		want string // as Source.String
	}{
		{"an address", bind("172.17.0.1", ""), "172.17.0.1 on iso0"},
		{"an address and its interface", bind("172.17.0.1", "iso0"), "172.17.0.1 on iso0"},
		{"a secondary address", bind("172.17.0.9", ""), "172.17.0.9 on iso0"},
		{"an address written as on an interface", bind("172.17.0.9/16", ""), "172.17.0.9 on iso0"},
		{"an address on two interfaces, one named", bind("10.0.0.2", "priv0"), "10.0.0.2 on priv0"},
		{"an address on two interfaces, the other named", bind("10.0.0.2", "twin0"), "10.0.0.2 on twin0"},
		{"one of a network of two, first", bind("198.51.100.0", ""), "198.51.100.0 on ptp0"},
		{"an address of the loopback network", bind("127.0.0.2", ""), "127.0.0.2 on lo"},
		{"an address of the loopback network, lo named", bind("127.9.9.9", "lo"), "127.9.9.9 on lo"},
		{"a prefix that picks one", bind("10.1.0.0/16", ""), "10.1.0.1 on two0"},
		{"a prefix that picks one, interface named", bind("10.0.0.0/24", "twin0"), "10.0.0.2 on twin0"},
		{"a prefix of several, one primary", bind("172.16.0.0/12", ""), "172.17.0.1 on iso0"},
		{"a prefix longer than the network's", bind("172.17.0.8/29", ""), "172.17.0.9 on iso0"},
		{"any address of an interface", bind("0.0.0.0/0", "iso0"), "172.17.0.1 on iso0"},
		{"an interface", bind("", "iso0"), "172.17.0.1 on iso0"},
		{"an interface with a link-local address too", bind("", "auto0"), "192.0.2.129 on auto0"},
		{"an interface with only a link-local address", bind("", "only0"), "169.254.8.8 on only0"},
		{"lo", bind("", "lo"), "127.0.0.1 on lo"},
		{"an alternative name", bind("", "enp3s0"), "172.17.0.1 on iso0"},
		{"an alternative name and an address", bind("172.17.0.9", "enp3s0"), "172.17.0.9 on iso0"},
		{"a label", bind("", "iso0:1"), "172.17.0.9 on iso0"},
		{"a label and another address of its interface", bind("172.17.0.1", "iso0:1"), "172.17.0.1 on iso0"},
		{"a label and the prefix of its address", bind("172.17.0.0/16", "iso0:1"), "172.17.0.9 on iso0"},
		{"a label, of IPv6 its interface", bind6("", "iso0:1"), "fd17::1 on iso0"},

		{"an IPv6 address", bind("fd17::1", ""), "fd17::1 on iso0"},
		{"a temporary IPv6 address", bind("fd17::f00", ""), "fd17::f00 on iso0"},
		{"a deprecated IPv6 address", bind("2001:db8:1::1", ""), "2001:db8:1::1 on old0"},
		{"a link-local IPv6 address", bind("fe80::2", "priv0"), "fe80::2 on priv0"},
		{"an IPv6 prefix, one not temporary", bind("fd17::/64", ""), "fd17::1 on iso0"},
		{"an IPv6 prefix, one not deprecated", bind("2001:db8:1::/64", ""), "2001:db8:1::5 on old0"},
		{"an interface's IPv6 address, global before link-local", bind6("", "priv0"), "fd10::2 on priv0"},
		{"an interface's IPv6 address, stable before temporary", bind6("", "iso0"), "fd17::1 on iso0"},
		{"an interface's IPv6 address, preferred before deprecated", bind6("", "old0"), "2001:db8:1::5 on old0"},
		{"an interface's IPv6 address, the lowest", bind6("", "two0"), "2001:db8::2 on two0"},
		{"an interface's IPv6 address, usable before tentative", bind6("", "mix0"), "fd19::2 on mix0"},
		{"an IPv6 prefix, one usable", bind("fd19::/64", ""), "fd19::2 on mix0"},
		{"an interface's IPv6 address, link-local for want of another", bind6("", "only0"), "fe80::b on only0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, err := tt.b.ResolveIn(host())
			if err != nil || src.String() != tt.want {
				t.Fatalf("got %v, %v; want %s", src, err, tt.want)
			}
			on := findInterface(host(), src.Interface)
			if src.Index != on.Index || src.MTU != on.MTU || src.Binding != tt.b {
				t.Errorf("got %+v, which is not all of %+v", src, on)
			}
		})
	}
}

func TestResolveDoesNotDependOnTheOrderOfAddresses(t *testing.T) {
	for _, on := range []string{"iso0", "two0", "old0"} {
		ifs := host()
		want, err := bind6("", on).ResolveIn(ifs)
		if err != nil {
			t.Fatal(err)
		}
		i := findInterface(ifs, on)
		for range i.Addresses {
			i.Addresses = append(i.Addresses[1:], i.Addresses[0])
			if got, err := bind6("", on).ResolveIn(ifs); err != nil || got.Addr != want.Addr {
				t.Errorf("%v: got %v, %v; want %v", i.Addresses, got, err, want)
			}
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	const (
		final     = iota
		later     // wraps ErrPending
		misplaced // and ErrMisplaced
	)
	change := func(b Binding, f func(*Binding)) Binding { f(&b); return b }
	for _, tt := range []struct {
		name string
		b    Binding
		kind int
		want string // the text
	}{
		{"nothing named", bind("", ""), final, "neither source nor interface: name at least one, it is never guessed"},
		{"ttl 0", change(bind("172.17.0.1", ""), func(b *Binding) { b.TTL = 0 }), final, "ttl 0: give 1 (this network only) to 255"},
		{"dscp 64", change(bind("172.17.0.1", ""), func(b *Binding) { b.DSCP = 64 }), final, "dscp 64: give 0 to 63"},
		{"a group", bind("239.1.2.3", ""), final, "source 239.1.2.3 is a group, not an address of an interface"},
		{"an IPv6 group", bind("ff02::1", ""), final, "source ff02::1 is a group, not an address of an interface"},
		{"a prefix of groups", bind("224.0.0.0/4", "iso0"), final, "source 224.0.0.0/4 is a group, not an address of an interface"},
		{"the unspecified address", bind("0.0.0.0", "iso0"), final, "source 0.0.0.0 is no address: name the one to send from"},
		{"the unspecified IPv6 address", bind("::", "iso0"), final, "source :: is no address: name the one to send from"},
		{"the broadcast address", bind("255.255.255.255", "iso0"), final, "source 255.255.255.255 is the broadcast address, not one of an interface"},
		{"a network's broadcast address", bind("172.17.255.255", ""), final, "source 172.17.255.255 is the broadcast address of 172.17.0.1/16 on iso0, not one to send from"},
		{"a network's address", bind("10.0.0.0", "priv0"), final, "source 10.0.0.0 is the network address of 10.0.0.2/24 on priv0, not one to send from"},
		{"the loopback network's address", bind("127.0.0.0", ""), final, "source 127.0.0.0 is the network address of 127.0.0.1/8 on lo, not one to send from"},
		{"the loopback network's broadcast address", bind("127.255.255.255", ""), final, "source 127.255.255.255 is the broadcast address of 127.0.0.1/8 on lo, not one to send from"},
		{"the other family", change(bind("172.17.0.1", ""), func(b *Binding) { b.IPv6 = true }), final, "source 172.17.0.1 is IPv4, but the groups are IPv6"},
		{"the other family, the other way", change(bind("fd17::/64", ""), func(b *Binding) { b.IPv6 = false }), final, "source fd17::/64 is IPv6, but the groups are IPv4"},
		{"an IPv4 address in IPv6's clothes", bind("::ffff:172.17.0.1", ""), final, "source ::ffff:172.17.0.1: write it as 172.17.0.1"},

		{"an address on two interfaces", bind("10.0.0.2", ""), final, "source 10.0.0.2 is ambiguous, there is 10.0.0.2 on priv0, 10.0.0.2 on twin0: name the interface too"},
		{"a prefix on two interfaces", bind("10.0.0.0/24", ""), final, "source 10.0.0.0/24 is ambiguous, there is 10.0.0.2 on priv0, 10.0.0.2 on twin0: name the interface too"},
		{"a prefix with two primary addresses", bind("10.0.0.0/8", "two0"), final, "source 10.0.0.0/8 is ambiguous, there is 10.1.0.1 on two0, 10.2.0.1 on two0: name the address"},
		{"an IPv6 prefix with two addresses", bind("2001:db8::/32", "two0"), final, "source 2001:db8::/32 is ambiguous, there is 2001:db8::3 on two0, 2001:db8::1 on two0, 2001:db8::2 on two0: name the address"},
		{"a link-local prefix on all interfaces", bind("fe80::/64", ""), final, "source fe80::/64 is ambiguous, there is fe80::1 on iso0, fe80::2 on priv0, fe80::8 on dad0, fe80::b on only0, fe80::c on old0: name the interface too"},
		{"an interface with two networks", bind("", "two0"), final, "interface two0 has several IPv4 addresses, 10.1.0.1 on two0, 10.2.0.1 on two0: name one as source"},

		{"an absent interface", bind("172.17.0.1", "eth9"), later, "there is no interface eth9 (there are lo, iso0, priv0, two0, down0, dead0, late0, dad0, twin0, auto0, only0, old0, ptp0, mix0)"},
		{"a label that no address has", bind("", "iso0:2"), later, "no address of iso0 has the label iso0:2"},
		{"an interface that is down", bind("", "down0"), later, "interface down0 is down"},
		{"an address whose interface is down", bind("192.0.2.1", ""), later, "interface down0 is down"},
		{"an interface without carrier", bind("", "dead0"), later, "interface dead0 has no carrier"},
		{"an address whose interface has no carrier", bind("192.0.2.65", "dead0"), later, "interface dead0 has no carrier"},
		{"an interface without addresses", bind("", "late0"), later, "interface late0 has no IPv4 address"},
		{"an interface without IPv6 addresses", bind6("", "late0"), later, "interface late0 has no IPv6 address"},
		{"an address on an interface that has none yet", bind("192.0.2.200", "late0"), later, "192.0.2.200 is not on late0 (it has no IPv4 address)"},
		{"another address of an interface that is down", bind("192.0.2.2", "down0"), later, "interface down0 is down"},
		{"an address nobody has", bind("203.0.113.1", ""), later, "no interface has 203.0.113.1 (there is 127.0.0.1 on lo, 172.17.0.1 on iso0, 172.17.0.9 on iso0, 10.0.0.2 on priv0, 10.1.0.1 on two0, 10.2.0.1 on two0, 192.0.2.1 on down0, 192.0.2.65 on dead0, 5 more)"},
		{"a prefix nobody is in", bind("2001:db8:9::/48", ""), later, "no interface has an address in 2001:db8:9::/48 (there is ::1 on lo, fd17::f00 on iso0, fd17::1 on iso0, fe80::1 on iso0, fd10::2 on priv0, fe80::2 on priv0, 2001:db8::3 on two0, 2001:db8::1 on two0, 10 more)"},
		{"a tentative address", bind("fd18::1", ""), later, "fd18::1 on dad0 is not usable yet: the check for duplicates is under way"},
		{"a duplicate address", bind("fd18::2", ""), later, "fd18::2 on dad0 is not usable: another host on the link has this address"},
		{"an interface whose global addresses are tentative", bind6("", "dad0"), later, "fd18::1 on dad0 is not usable yet: the check for duplicates is under way"},

		{"an address that the interface does not have", bind("172.17.0.5", "iso0"), misplaced, "172.17.0.5 is not on iso0 (it has 172.17.0.1/16, 172.17.0.9/16)"},
		{"the other address of a network of two", bind("198.51.100.1", "ptp0"), misplaced, "198.51.100.1 is not on ptp0 (it has 198.51.100.0/31)"},
		{"an address of another interface", bind("172.17.0.1", "priv0"), misplaced, "172.17.0.1 is not on priv0 (it has 10.0.0.2/24): there is 172.17.0.1 on iso0"},
		{"an address of another interface, ours being down", bind("172.17.0.1", "down0"), misplaced, "172.17.0.1 is not on down0 (it has 192.0.2.1/26): there is 172.17.0.1 on iso0"},
		{"a prefix of another interface", bind("172.17.0.0/16", "late0"), misplaced, "late0 has no address in 172.17.0.0/16 (it has no IPv4 address): there is 172.17.0.1 on iso0, 172.17.0.9 on iso0"},
		{"a loopback address on a real interface", bind("127.0.0.2", "iso0"), misplaced, "127.0.0.2 is not on iso0 (it has 172.17.0.1/16, 172.17.0.9/16): there is 127.0.0.2 on lo"},
		{"an IPv6 address the interface does not have", bind("fd17::5", "iso0"), misplaced, "fd17::5 is not on iso0 (it has fd17::f00/64, fd17::1/64, fe80::1/64)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, err := tt.b.ResolveIn(host())
			if err == nil {
				t.Fatalf("got %s; want an error", src)
			}
			if err.Error() != tt.want {
				t.Errorf("text:\n got %s\nwant %s", err, tt.want)
			}
			if got, want := errors.Is(err, ErrPending), tt.kind != final; got != want {
				t.Errorf("pending: %t, want %t: %v", got, want, err)
			}
			if got, want := errors.Is(err, ErrMisplaced), tt.kind == misplaced; got != want {
				t.Errorf("misplaced: %t, want %t: %v", got, want, err)
			}
		})
	}
}

// Should somebody give a network of the host to lo, its other addresses are
// still those of the interfaces that have them.
func TestResolvePrefersTheOwnerToTheLoopbackNetwork(t *testing.T) {
	ifs := host()
	ifs[0].Addresses = append(ifs[0].Addresses, at("10.9.9.9/8"))
	src, err := bind("10.1.0.1", "").ResolveIn(ifs)
	if err != nil || src.String() != "10.1.0.1 on two0" {
		t.Errorf("got %v, %v; want 10.1.0.1 on two0", src, err)
	}
}

// "ip address add 239.10.0.1/32 dev iso0 autojoin" joins a group for the host, and puts
// it on the interface like an address.
func TestAGroupOnTheInterfaceIsNoSource(t *testing.T) {
	ifs := []Interface{up("iso0", 1, at("239.10.0.1/32"), at("172.17.0.1/16"), at("ff15::77/64"), at("fe80::1/64"))}
	for _, tt := range []struct {
		binding Binding
		want    string
	}{
		{Binding{Interface: "iso0"}, "172.17.0.1"},
		{Binding{Source: netip.MustParsePrefix("0.0.0.0/0")}, "172.17.0.1"},
		{Binding{Interface: "iso0", IPv6: true}, "fe80::1"},
	} {
		tt.binding.TTL = 1
		if got, err := tt.binding.ResolveIn(ifs); err != nil || got.Addr.String() != tt.want {
			t.Errorf("%+v: %v, %v; want %s", tt.binding, got.Addr, err, tt.want)
		}
	}
}
