package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"topicast/internal/lab/netlab"
)

// The tests of this file run on netlab's rig, and are about who hears what, and
// what the network is told of it.

// sendersOn opens a sender at each of several addresses of a host's eth0.
func sendersOn(t *testing.T, h *netlab.Host, addrs ...string) (all []*Sender) {
	t.Helper()
	for _, a := range addrs {
		all = append(all, openOn(t, h, with(bind(a, "eth0"), nil)))
	}
	return all
}

func addrsOf(ss []*Sender) (all []netip.Addr) {
	for _, s := range ss {
		all = append(all, s.LocalAddr().Addr())
	}
	return all
}

func TestReceiversOfOneGroupHaveSourcesOfTheirOwn(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.Dev.Addr("eth0", "172.17.0.51/16")
	rig.Dev.Addr("eth0", "fd17::51/64")
	for _, tt := range []struct {
		group   string
		sources []string
	}{
		{"232.1.1.1:30000", []string{"172.17.0.50", "172.17.0.51"}},
		{"[ff35::1]:30000", []string{"fd17::50", "fd17::51"}},
	} {
		group := netip.MustParseAddrPort(tt.group)
		from := sendersOn(t, rig.Dev, tt.sources...)
		addrs := addrsOf(from)
		first, second := listenOn(t, rig.GW, group, "iso0", addrs[0]), listenOn(t, rig.GW, group, "iso0", addrs[1])
		both, any := listenOn(t, rig.GW, group, "iso0", addrs...), listenOn(t, rig.GW, group, "iso0")
		send(t, from[0], group, "one")
		send(t, from[1], group, "two")
		send(t, from[0], group, "end of one")
		send(t, from[1], group, "end of two")
		for _, w := range []struct {
			r    *Receiver
			want []string
		}{
			{first, []string{"one", "end of one"}},
			{second, []string{"two", "end of two"}},
			{both, []string{"one", "two", "end of one", "end of two"}},
			{any, []string{"one", "two", "end of one", "end of two"}},
		} {
			if d := cmp.Diff(w.want, payloads(next(t, w.r, len(w.want)))); d != "" {
				t.Errorf("%s: want -, got +:\n%s", group, d)
			}
		}
		// They may change, of each socket by itself.
		for r, sources := range map[*Receiver][]netip.Addr{first: addrs[1:], second: addrs, both: nil, any: addrs[:1]} {
			if err := r.SetSources(sources); err != nil {
				t.Errorf("%s: %v", group, err)
			}
		}
		send(t, from[0], group, "one")
		send(t, from[1], group, "two")
		send(t, from[0], group, "end of one")
		for r, want := range map[*Receiver][]string{first: {"two"}, second: {"one", "two", "end of one"}, both: {"one", "two", "end of one"}, any: {"one", "end of one"}} {
			if d := cmp.Diff(want, payloads(next(t, r, len(want)))); d != "" {
				t.Errorf("%s, changed: want -, got +:\n%s", group, d)
			}
		}
	}
}

// reportsOf returns what a captured frame reports of a group, of IGMPv3 or of
// MLDv2 (RFC 3810, 5.2: type 143, at 6 the number of records, each a type, the
// number of its sources at 2, the group, the sources).
func reportsOf(f netlab.Frame, group netip.Addr) (list []netlab.Membership) {
	list = slices.Clone(f.IGMP)
	if b := f.Payload; f.Protocol == 58 && len(b) >= 8 && b[0] == 143 {
		n := binary.BigEndian.Uint16(b[6:])
		for b = b[8:]; n > 0 && len(b) >= 20; n-- {
			m := netlab.Membership{
				Type:  []string{1: "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"}[b[0]],
				Group: netip.AddrFrom16([16]byte(b[4:20])),
			}
			k := int(binary.BigEndian.Uint16(b[2:]))
			for b = b[20:]; k > 0 && len(b) >= 16; k, b = k-1, b[16:] {
				m.Sources = append(m.Sources, netip.AddrFrom16([16]byte(b)))
			}
			list = append(list, m)
		}
	}
	return slices.DeleteFunc(list, func(m netlab.Membership) bool { return m.Group != group })
}

// Of few sources and of many the network is told by name, and never asked for the
// group as a whole: routers would not give it (RFC 4607, 4.1).
func TestSourcesAreReported(t *testing.T) {
	rig := netlab.NewRig(t)
	wire := rig.Dev.Capture("eth0")
	stranger := map[bool]*Sender{false: sendersOn(t, rig.Dev, "172.17.0.50")[0], true: sendersOn(t, rig.Dev, "fd17::50")[0]}
	for _, tt := range []struct {
		group, first, prefix string
		n                    int
	}{
		{"232.1.1.1:30000", "172.17.1.1", "172.17.1.1/16", 2},
		{"232.1.1.2:30000", "172.17.1.1", "172.17.1.1/16", 50},
		{"[ff35::1]:30000", "fd17::1:1", "fd17::1:1/64", 2},
		{"[ff35::2]:30000", "fd17::1:1", "fd17::1:1/64", 150},
	} {
		t.Run(fmt.Sprintf("%d sources of %s", tt.n, tt.group), func(t *testing.T) {
			group := netip.MustParseAddrPort(tt.group)
			want := map[netip.Addr]bool{}
			var sources []netip.Addr
			for a := netip.MustParseAddr(tt.first); len(sources) < tt.n; a = a.Next() {
				sources, want[a] = append(sources, a), true
			}
			r := listenOn(t, rig.GW, group, "iso0", sources...)
			seen := map[netip.Addr]bool{}
			wire.WaitForFrame(func(f netlab.Frame) bool {
				for _, m := range reportsOf(f, group.Addr()) {
					switch m.Type {
					case "ALLOW", "IS_IN", "TO_IN":
						for _, s := range m.Sources {
							seen[s] = true
						}
					case "BLOCK": // of a first try on one socket
					default:
						t.Errorf("reported %+v", m)
					}
				}
				return len(seen) == tt.n
			})
			if d := cmp.Diff(want, seen, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Errorf("reported: want -, got +:\n%s", d)
			}
			rig.Dev.Addr("eth0", tt.prefix)
			defer rig.Dev.DelAddr("eth0", tt.prefix)
			from := sendersOn(t, rig.Dev, tt.first)[0]
			send(t, stranger[group.Addr().Is6()], group, "no")
			send(t, from, group, "yes")
			if got := next(t, r, 1)[0]; string(got.Payload) != "yes" {
				t.Errorf("heard %q from %s", got.Payload, got.Source)
			}
		})
	}
}

// Whatever programs on the host have joined, where and how, a receiver hears its
// group on its interface.
func TestWhatOthersHaveJoinedDoesNotLeakIn(t *testing.T) {
	for _, tt := range []struct{ group, other, dev, lan string }{
		{"239.1.1.1:30000", "239.1.1.2:30000", "172.17.0.50", "10.0.0.1"},
		{"232.1.1.1:30000", "232.1.1.2:30000", "172.17.0.50", "10.0.0.1"},
		{"[ff15::1]:30000", "[ff15::2]:30000", "fd17::50", "fd10::1"},
		{"[ff1e::1]:30000", "[ff1e::2]:30000", "fd17::50", "fd10::1"},
		{"[ff02::7]:30000", "[ff02::8]:30000", "fd17::50", "fd10::1"},
	} {
		t.Run(tt.group, func(t *testing.T) {
			rig := netlab.NewRig(t)
			group, other := netip.MustParseAddrPort(tt.group), netip.MustParseAddrPort(tt.other)
			// Other ports: it is a group that a host joins.
			foreign := netip.AddrPortFrom(group.Addr(), 30001)
			rig.GW.Device("priv0", netip.AddrPortFrom(group.Addr(), 30003), netip.AddrPortFrom(other.Addr(), 30003))
			rig.GW.Device("iso0", netip.AddrPortFrom(other.Addr(), 30002))
			dev, lan := sendersOn(t, rig.Dev, tt.dev)[0], sendersOn(t, rig.Lan, tt.lan)[0]
			r, sync := listenOn(t, rig.GW, group, "iso0"), listenOn(t, rig.GW, foreign, "priv0")
			send(t, lan, group, "wrong interface")
			send(t, lan, foreign, "sync")
			next(t, sync, 1) // and what went before has come through that cable
			send(t, dev, other, "wrong group")
			send(t, dev, group, "right")
			if d := cmp.Diff([]string{"right"}, payloads(next(t, r, 1))); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			quiet(t, r, dev)
		})
	}
}

// There are 63 universes in a small lighting rig, and a socket may join 20 groups
// (net.ipv4.igmp_max_memberships).
func TestHundredsOfGroupsOnOnePort(t *testing.T) {
	rig := netlab.NewRig(t)
	for _, tt := range []struct {
		first, from string
		n           int
	}{{"239.255.0.1", "172.17.0.50", 300}, {"ff18::1", "fd17::50", 63}} {
		s := sendersOn(t, rig.Dev, tt.from)[0]
		var rs []*Receiver
		var batch []Datagram
		for a := netip.MustParseAddr(tt.first); len(rs) < tt.n; a = a.Next() {
			group := netip.AddrPortFrom(a, 5568)
			rs = append(rs, listenOn(t, rig.GW, group, "iso0"))
			batch = append(batch, Datagram{To: group, Payload: []byte(a.String())}, Datagram{To: group, Payload: []byte("end")})
		}
		if n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) }); n != len(batch) {
			t.Fatalf("sent %d of %d: %v", n, len(batch), err)
		}
		for _, r := range rs {
			if d := cmp.Diff([]string{r.Group().Addr().String(), "end"}, payloads(next(t, r, 2))); d != "" {
				t.Errorf("%s: want -, got +:\n%s", r.Group(), d)
			}
			r.Close()
		}
	}
}

func TestFragmentedDatagramsArriveWhole(t *testing.T) {
	rig := netlab.NewRig(t)
	long := make([]byte, MaxPayload)
	for i := range long {
		long[i] = byte(i * 7) // all values
	}
	for group, from := range map[netip.AddrPort]string{rigGroup: "172.17.0.50", rigGroup6: "fd17::50"} {
		r, s := listenOn(t, rig.GW, group, "iso0"), sendersOn(t, rig.Dev, from)[0]
		want := []string{"", string(long), string(long[:256]), ""}
		send(t, s, group, want...)
		if got := payloads(next(t, r, len(want))); !slices.Equal(want, got) {
			t.Errorf("%s: payloads differ", group)
		}
		quiet(t, r, s)
	}
}

// Between them the receiver stays the same and nobody calls Rejoin: what the
// kernel heals by itself.
func TestAReceiverOutlivesItsInterfacesTroubles(t *testing.T) {
	rig := netlab.NewRig(t)
	for group, from := range map[netip.AddrPort]string{rigGroup: "172.17.0.50", rigGroup6: rig.Dev.LinkLocal("eth0").String()} {
		r := listenOn(t, rig.GW, group, "iso0")
		for _, tt := range []struct {
			name      string
			off, back func()
		}{
			{"nothing", func() {}, func() {}},
			{"link down", func() { rig.GW.Down("iso0") }, func() { rig.GW.Up("iso0") }},
			{"no carrier", func() { rig.Dev.Down("eth0") }, func() { rig.Dev.Up("eth0") }},
			{"no address", func() { rig.GW.DelAddr("iso0", "172.17.0.1/16") }, func() { rig.GW.Addr("iso0", "172.17.0.1/16") }},
			{"another name", func() { rig.GW.Rename("iso0", "iso9") }, func() { rig.GW.Rename("iso9", "iso0") }},
		} {
			tt.off()
			tt.back()
			rig.GW.LinkLocal("iso0") // until then IPv6 takes nothing in
			s := sendersOn(t, rig.Dev, from)[0]
			send(t, s, group, tt.name)
			if got := next(t, r, 1)[0]; string(got.Payload) != tt.name {
				t.Errorf("%s: heard %q", tt.name, got.Payload)
			}
			s.Close()
		}
	}
}

func TestRejoinIsReported(t *testing.T) {
	rig := netlab.NewRig(t)
	wire := rig.Dev.Capture("eth0")
	for _, tt := range []struct {
		group   string
		sources []netip.Addr
		want    string
	}{
		{"239.1.1.1:30000", nil, "TO_EX"},
		{"232.1.1.1:30000", []netip.Addr{netip.MustParseAddr("172.17.0.50")}, "ALLOW"},
		{"[ff15::1]:30000", nil, "TO_EX"},
		{"[ff35::1]:30000", []netip.Addr{netip.MustParseAddr("fd17::50")}, "ALLOW"},
	} {
		group := netip.MustParseAddrPort(tt.group)
		// Reports are sent twice (RFC 3376, 4.1; the robustness variable), so the
		// third is one that Rejoin caused.
		awaitReport := func(least int) {
			t.Helper()
			n := 0
			wire.WaitForFrame(func(f netlab.Frame) bool {
				if slices.ContainsFunc(reportsOf(f, group.Addr()), func(m netlab.Membership) bool {
					return m.Type == tt.want && slices.Equal(m.Sources, tt.sources)
				}) {
					n++
				}
				return n >= least
			})
		}
		r := listenOn(t, rig.GW, group, "iso0", tt.sources...)
		awaitReport(2)
		rig.Dev.Down("eth0")
		rig.Dev.Up("eth0")
		if err := r.Rejoin(); err != nil {
			t.Fatal(err)
		}
		awaitReport(3)
	}
}

// remake makes an interface of a host anew, with a cable to eth0 of another, and
// with an index of choice.
func remake(t *testing.T, h *netlab.Host, dev string, index int, far *netlab.Host) {
	t.Helper()
	var space *os.File
	err := far.Do(func() (err error) {
		space, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	err = h.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: dev, Index: index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(space.Fd()),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Up(dev)
	far.Up("eth0")
	h.LinkLocal(dev)
	far.Addr("eth0", "172.17.0.50/16")
	far.Addr("eth0", "fd17::50/64")
	if got := h.Index(dev); index != 0 && got != index {
		t.Fatalf("the index is %d, not %d", got, index)
	}
}

func TestARecreatedInterfaceIsJoinedAnew(t *testing.T) {
	for _, tt := range []struct{ group, from string }{{"239.1.1.1:30000", "172.17.0.50"}, {"[ff15::1]:30000", "fd17::50"}} {
		for _, same := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s same index %t", tt.group, same), func(t *testing.T) {
				rig := netlab.NewRig(t)
				rig.GW.Sysctl("net.ipv4.conf.all.rp_filter", "0")
				rig.GW.Sysctl("net.ipv4.conf.default.rp_filter", "0")
				group := netip.MustParseAddrPort(tt.group)
				index := rig.GW.Index("iso0")
				r := listenOn(t, rig.GW, group, "iso0")
				rig.GW.Delete("iso0")
				if err := r.Rejoin(); !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), "interface iso0 is gone") {
					t.Errorf("deleted: %v", err)
				}
				if same {
					remake(t, rig.GW, "iso0", index, rig.Dev)
				} else {
					remake(t, rig.GW, "iso0", index+1000, rig.Dev)
				}
				s := sendersOn(t, rig.Dev, tt.from)[0]
				fresh := listenOn(t, rig.GW, netip.AddrPortFrom(group.Addr(), 30001), "iso0") // shows what comes through
				send(t, s, group, "unheard")
				send(t, s, fresh.Group(), "sync")
				next(t, fresh, 1)
				fresh.Close()
				if same {
					if err := r.Rejoin(); err != nil {
						t.Fatal(err)
					}
				} else {
					if err := r.Rejoin(); !errors.Is(err, ErrPending) {
						t.Errorf("another index: %v", err)
					}
					r.Close()
					r = listenOn(t, rig.GW, group, "iso0")
				}
				send(t, s, group, "heard")
				if got := next(t, r, 1)[0]; string(got.Payload) != "heard" || got.Interface != rig.GW.Index("iso0") {
					t.Errorf("heard %q on %d", got.Payload, got.Interface)
				}
			})
		}
	}
}
