package netlab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// carrier is what the kernel says of an interface that is set up.
func carrier(t *testing.T, h *Host, dev string) bool {
	t.Helper()
	return h.link(dev).Attrs().OperState == netlink.OperUp
}

func TestAPulledCableTakesTheCarrierAndLeavesTheInterfaceUp(t *testing.T) {
	lab := New(t)
	h, sw := lab.Host("h"), lab.Switch("sw")
	lab.Plug(h, "eth0", sw)
	become := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); carrier(t, h, "eth0") != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the carrier does not become %t", want)
			}
		}
	}
	become(true)
	h.PullCable("eth0")
	become(false)
	if h.link("eth0").Attrs().RawFlags&1 == 0 { // IFF_UP
		t.Error("the interface itself went down")
	}
	h.PushCable("eth0")
	become(true)
}

func TestAnInterfaceCanBePluggedInAgainUnderItsOldIndex(t *testing.T) {
	lab := New(t)
	h, sw := lab.Host("h"), lab.Switch("sw")
	lab.Plug(h, "eth0", sw)
	index := h.Index("eth0")
	h.Delete("eth0")
	lab.Plug(h, "eth0", sw)
	if got := h.Index("eth0"); got == index {
		t.Errorf("the new interface has the old index %d without being asked to", got)
	}
	h.Delete("eth0")
	lab.PlugAs(h, "eth0", index, sw)
	if got := h.Index("eth0"); got != index {
		t.Errorf("the index is %d, want %d", got, index)
	}
	h.PullCable("eth0") // finds the cable that is there, not the first that had the index
	h.PushCable("eth0")
}

func TestAListenerHandsOverWhatItHears(t *testing.T) {
	rig := NewRig(t)
	heard := make(chan Received, 1)
	d := rig.Dev.Listener("eth0", func(r Received) {
		r.Payload = append([]byte(nil), r.Payload...)
		heard <- r
	}, group)
	send(t, rig.GW, "iso0", "172.17.0.1", group, []byte("hello"))
	select {
	case r := <-heard:
		if string(r.Payload) != "hello" || r.Group != group || r.Source.Addr() != netip.MustParseAddr("172.17.0.1") {
			t.Errorf("heard %v", r)
		}
	case <-time.After(patience):
		t.Fatal("nothing heard")
	}
	if got := d.Received(); len(got) > 0 {
		t.Errorf("a listener keeps %v", got)
	}
}
