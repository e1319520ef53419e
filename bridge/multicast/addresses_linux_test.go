package multicast

import (
	"errors"
	"fmt"
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
				n, err := s.Send([]Datagram{{Group: group, Payload: []byte(when)}, {Group: group, Payload: []byte(when)}},
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
	if n, err := s.Send([]Datagram{{Group: rigGroup, Payload: []byte("moved")}}, nil); n != 0 || !errors.Is(err, ErrPending) {
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
	if n, err := s.Send([]Datagram{{Group: rigGroup6, Payload: []byte("x")}}, nil); n != 0 || !errors.Is(err, ErrPending) {
		t.Errorf("%d, %v", n, err)
	}
}
