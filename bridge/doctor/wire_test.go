package doctor

import (
	"net/netip"
	"testing"

	"topicast/internal/frame"
)

// Whoever sends from many addresses, or to many groups, takes no more than this.
func TestWhatIsRememberedOfTheWireIsBounded(t *testing.T) {
	w := newWire(now)
	for i := range 3 * mostFlows {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 4000)
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 0, byte(i >> 8), byte(i)}), 30001)
		for _, kind := range []frame.Kind{frame.Datagram, frame.Fragment, frame.Cut} {
			w.add(frame.Packet{Kind: kind, Source: from, To: to}, false, now)
		}
		w.add(frame.Packet{Kind: frame.Fragment, Source: from, To: to}, true, now)
	}
	if len(w.Flows) != mostFlows || w.More != 2*mostFlows || len(w.Fragments) != mostFlows || w.Fragments[netip.MustParseAddr("239.0.0.0")] != 1 {
		t.Errorf("%d flows, %d more, %d fragments", len(w.Flows), w.More, len(w.Fragments))
	}
}
