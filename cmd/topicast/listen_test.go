package main

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/multicast"
)

func TestListenTakesTheOnlyInterfaceAndGuessesNone(t *testing.T) {
	h := testHost()
	for _, c := range []struct {
		name       string
		interfaces []multicast.Interface
		want       string
		hint       string
	}{
		{"one beside the loopback", h.interfaces[:2], "priv0", ""},
		{"one that is up with carrier", []multicast.Interface{h.interfaces[0], h.interfaces[3], h.interfaces[4], h.interfaces[2]}, "iso0", ""},
		{"two", h.interfaces[:3], "", "name one with --interface: priv0, iso0"},
		{"the loopback alone", h.interfaces[:1], "", "name one with --interface: lo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := onlyInterface(c.interfaces)
			if got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
			var b strings.Builder
			if c.hint == "" {
				return
			}
			if status := conclude(&b, newRootCommand(), err); status != exitUsage || !strings.Contains(b.String(), "hint: "+c.hint+"\n") {
				t.Errorf("exit status %d, %s", status, b.String())
			}
		})
	}
}

func TestGroupsOfSourceSpecificMulticastNeedASource(t *testing.T) {
	source := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for _, c := range []struct {
		group   string
		sources []netip.Addr
		want    bool
	}{
		{"232.1.2.3:5000", nil, true},
		{"232.1.2.3:5000", source, false},
		{"231.255.255.255:5000", nil, false},
		{"233.0.0.1:5000", nil, false},
		{"[ff35::7]:5000", nil, true},
		{"[ff15::7]:5000", nil, false},
		{"[ff35:1::7]:5000", nil, false}, // embeds a unicast prefix (RFC 3306)
	} {
		o := multicast.ReceiverOptions{Group: netip.MustParseAddrPort(c.group), Sources: c.sources}
		if got := needsSource(o); got != c.want {
			t.Errorf("%s from %v: %t, want %t", c.group, c.sources, got, c.want)
		}
	}
}

// bursts is a receiver that hears this many datagrams at a time.
type bursts []int

func (b *bursts) Receive(batch []multicast.Datagram) (int, error) {
	if len(*b) == 0 {
		return 0, io.EOF
	}
	n := (*b)[0]
	*b = (*b)[1:]
	for i := range n {
		batch[i] = multicast.Datagram{Payload: []byte("x")}
	}
	return n, nil
}

func TestListenPrintsAsManyAsAskedFor(t *testing.T) {
	for _, c := range []struct {
		count int
		want  int
		err   error
	}{{0, 6, io.EOF}, {1, 1, nil}, {2, 2, nil}, {3, 3, nil}, {6, 6, nil}, {7, 6, io.EOF}} {
		var out strings.Builder
		o := listenOptions{count: c.count}
		heard, err := o.receive(&bursts{1, 3, 2}, &printer{out: &out, format: formatText})
		if heard != c.want || strings.Count(out.String(), "\n") != c.want || !errors.Is(err, c.err) {
			t.Errorf("--count %d: %d heard, %v, printed\n%s", c.count, heard, err, out.String())
		}
	}
}
