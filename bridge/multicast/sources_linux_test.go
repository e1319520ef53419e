package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// From a source that is among the old and the new ones everything arrives, however often they
// change while it sends.
func TestSourcesChangeWithoutLoss(t *testing.T) {
	r := hear(t, "232.1.1.1:0", ReceiverOptions{})
	two, three := openAt(t, at127(2)), openAt(t, at127(3))
	a, b := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	const n, piece = 20_000, 100
	room := make(chan struct{}, 5*piece) // a slow machine's buffer must not overflow
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range n {
			select {
			case room <- struct{}{}:
			case <-t.Context().Done():
				return
			}
			batch := []Datagram{{To: r.Group(), Payload: fmt.Append(nil, i)}}
			if sent, err := two.Send(batch, nil); sent != 1 || err != nil {
				t.Error(err)
			}
		}
	}()
	ended := make(chan error)
	go func() {
		for {
			for _, sources := range [][]netip.Addr{{a, b}, {a}, {b, a, a}, {a}} {
				if err := r.SetSources(sources); err != nil {
					ended <- err
					return
				}
			}
			select {
			case <-sent:
				ended <- nil
				return
			default:
			}
		}
	}()
	for i := 0; i < n; {
		for _, d := range next(t, r, piece) {
			if string(d.Payload) != fmt.Sprint(i) {
				t.Fatalf("datagram %d is %s", i, d.Payload)
			}
			<-room
			i++
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	send(t, three, r.Group(), "none of the sources")
	quiet(t, r, two)
	for _, tt := range []struct {
		sources []netip.Addr
		from    *Sender
	}{{[]netip.Addr{b}, three}, {nil, two}, {nil, three}, {[]netip.Addr{a}, two}} {
		if err := r.SetSources(tt.sources); err != nil {
			t.Fatal(err)
		}
		if err := r.Rejoin(); err != nil { // by the sources as they are now
			t.Fatal(err)
		}
		send(t, tt.from, r.Group(), "x")
		if got := payloads(next(t, r, 1)); got[0] != "x" {
			t.Errorf("from %v heard %q", tt.sources, got)
		}
	}
}

// More than a socket may name are refused, and those of before stay.
func TestSourcesThatDoNotFitChangeNothing(t *testing.T) {
	a := netip.MustParseAddr("127.0.0.2")
	r := hear(t, "232.1.1.1:0", ReceiverOptions{Sources: []netip.Addr{a}})
	var many []netip.Addr
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}))
	}
	if err := r.SetSources(many); err == nil {
		t.Error("taken")
	}
	two, three := openAt(t, at127(2)), openAt(t, at127(3))
	send(t, three, r.Group(), "no")
	send(t, two, r.Group(), "yes")
	if got := payloads(next(t, r, 1)); got[0] != "yes" {
		t.Errorf("heard %q", got)
	}
	wide := hear(t, "232.1.1.2:0", ReceiverOptions{Sources: many})
	if err := wide.SetSources([]netip.Addr{a}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("err %v where they were on several sockets", err)
	}
}
