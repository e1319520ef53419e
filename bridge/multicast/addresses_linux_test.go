package multicast

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// A source that has moved to another interface, or is gone, is not sent from: from
// the moment on that the kernel has moved it.
func TestASourceThatHasMovedSendsNothing(t *testing.T) {
	for _, tt := range []struct{ source, prefix string }{{"172.17.0.1", "172.17.0.1/16"}, {"fd17::1", "fd17::1/64"}} {
		t.Run(tt.source, func(t *testing.T) {
			rig := netlab.NewRig(t)
			iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
			group := rigGroup
			if b := bind(tt.source, ""); b.IPv6 {
				group = rigGroup6
			}
			s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), nil))
			refused := func(when string) {
				t.Helper()
				n, err := s.Send([]Datagram{{To: group, Payload: []byte(when)}, {To: group, Payload: []byte(when)}},
					func(i int, err error) { t.Errorf("%s: datagram %d: %v", when, i, err) })
				if n != 0 || !errors.Is(err, ErrPending) || err.Error() != fmt.Sprintf("send from %s on iso0: the address is no longer on the interface", tt.source) {
					t.Errorf("%s: disposed of %d, %v", when, n, err)
				}
			}
			send(t, s, group, "at first")
			for range 20 {
				rig.GW.DelAddr("iso0", tt.prefix)
				rig.GW.Addr("priv0", tt.prefix)
				refused("moved")
				rig.GW.DelAddr("priv0", tt.prefix)
				refused("gone")
				rig.GW.Addr("iso0", tt.prefix)
				s.awaitAddress(t)
				send(t, s, group, "back")
			}
			iso.WaitFor(21, nil)
			iso.None(func(f netlab.Frame) bool { return string(f.Payload) == "moved" || string(f.Payload) == "gone" })
			priv.None(nil)
		})
	}
}

// awaitAddress waits until the kernel has told that the source is back.
func (s *Sender) awaitAddress(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !s.carrier.hasAddress(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come back", s.source)
		}
	}
}

// More news than the socket holds is not missed.
func TestASourceThatHasMovedInAFloodSendsNothing(t *testing.T) {
	rig := netlab.NewRig(t)
	iso := rig.Dev.Capture("eth0")
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	flood := func() {
		for range 600 { // of about a thousand that it holds
			rig.GW.Addr("priv0", "10.0.0.77/24")
			rig.GW.DelAddr("priv0", "10.0.0.77/24")
		}
	}
	flood()
	rig.GW.DelAddr("iso0", "172.17.0.1/16")
	rig.GW.Addr("priv0", "172.17.0.1/16")
	if n, err := s.Send([]Datagram{{To: rigGroup, Payload: []byte("moved")}}, nil); n != 0 || !errors.Is(err, ErrPending) {
		t.Errorf("moved: %d, %v", n, err)
	}
	flood()
	rig.GW.DelAddr("priv0", "172.17.0.1/16")
	rig.GW.Addr("iso0", "172.17.0.1/16")
	s.awaitAddress(t)
	send(t, s, rigGroup, "back")
	iso.WaitFor(1, nil)
	iso.None(func(f netlab.Frame) bool { return string(f.Payload) == "moved" })
}

// Between Resolve and Open too.
func TestASourceThatMovesBeforeItIsOpenedIsPending(t *testing.T) {
	rig := netlab.NewRig(t)
	src := waitResolve(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil), "resolve", nil, func(_ Source, err error) bool { return err == nil })
	rig.GW.DelAddr("iso0", "172.17.0.1/16")
	rig.GW.Addr("priv0", "172.17.0.1/16")
	rig.GW.Do(func() error {
		if s, err := Open(src); !errors.Is(err, ErrPending) || err.Error() != "open a sender at 172.17.0.1 on iso0: 172.17.0.1 on iso0 is no longer there" {
			t.Errorf("%v, %v", s, err)
		}
		return nil
	})
}

// An IPv6 address that is being checked for duplicates anew is not used meanwhile.
func TestASourceThatBecomesTentativeSendsNothing(t *testing.T) {
	rig := netlab.NewRig(t)
	s := openOn(t, rig.GW, with(bind("fd17::1", "iso0"), nil))
	rig.GW.DelAddr("iso0", "fd17::1/64")
	rig.GW.TentativeAddr("iso0", "fd17::1/64", "100") // for minutes
	if n, err := s.Send([]Datagram{{To: rigGroup6, Payload: []byte("x")}}, nil); n != 0 || !errors.Is(err, ErrPending) {
		t.Errorf("%d, %v", n, err)
	}
}

// An address that was given without a broadcast address has one all the same: the kernel takes what
// comes there for this host, and so do we.
func TestAnAddressWithoutABroadcastAddressHasOne(t *testing.T) {
	rig := netlab.NewRig(t)
	ip(t, rig.GW, "addr add 192.0.2.9/24 dev iso0", "addr add 198.51.100.9/24 brd 198.51.100.7 dev iso0", "addr add 203.0.113.8/31 dev iso0")
	var interfaces []Interface
	if err := rig.GW.Do(func() (err error) { interfaces, err = Interfaces(); return err }); err != nil {
		t.Fatal(err)
	}
	on, err := ResolveInterface("iso0", interfaces)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range on.Addresses {
		if a.Prefix.Addr().Is4() {
			got[a.Prefix.String()] = a.Broadcast.String()
		}
	}
	for prefix, want := range map[string]string{"192.0.2.9/24": "192.0.2.255", "198.51.100.9/24": "198.51.100.7", "203.0.113.8/31": "invalid IP"} {
		if got[prefix] != want {
			t.Errorf("%s: %s, want %s", prefix, got[prefix], want)
		}
	}
	out, err := rig.GW.Command("ip", "route", "show", "table", "local", "192.0.2.255").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "broadcast 192.0.2.255") {
		t.Errorf("the kernel says %s, %v", out, err)
	}
}
