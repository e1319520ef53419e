package main

import (
	"net/netip"
	"runtime"
	"testing"

	"topicast/bridge/multicast"
)

// loopbackEnds are the loopback interface and a sender on it.
func loopbackEnds(t *testing.T) (multicast.Interface, *multicast.Sender) {
	t.Helper()
	lo, _, address, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	source, err := multicast.Binding{
		Source: netip.PrefixFrom(address, address.BitLen()), Interface: lo.Name, TTL: 1, Loopback: true, Fragment: true,
	}.ResolveIn([]multicast.Interface{lo})
	if err != nil {
		t.Fatal(err)
	}
	s, err := multicast.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return lo, s
}

func TestEarsCountWhatTheyWereTooSlowFor(t *testing.T) {
	lo, s := loopbackEnds(t)
	group := netip.MustParseAddrPort("239.255.40.1:5040")
	busy, goOn, heard := make(chan bool), make(chan bool), 0
	e, err := openGroupReaders([]netip.AddrPort{group}, lo, nil, func(batch []multicast.Datagram) {
		if heard == 0 {
			close(busy)
			<-goOn
		}
		heard += len(batch)
	})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]multicast.Datagram, 64)
	for i := range batch {
		batch[i] = multicast.Datagram{To: group, Payload: make([]byte, 1000)}
	}
	sent := 0
	send := func(batch []multicast.Datagram) {
		t.Helper()
		for left := batch; len(left) > 0; {
			n, err := s.Send(left, func(int, error) {})
			if sent, left = sent+n, left[n:]; err != nil && s.Wait(t.Context()) != nil {
				t.Fatal(err)
			}
		}
	}
	send(batch[:1])
	<-busy
	for sent < multicast.ReceiveBuffer/1000*3 { // the kernel doubles what it grants (socket(7))
		send(batch)
	}
	close(goOn)
	accounted := func() int {
		n, err := e.receivers[0].KernelDrops()
		if err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		return heard + int(n)
	}
	for accounted() < sent {
		runtime.Gosched()
	}
	e.close()
	lost, err := e.wait()
	if err != nil || lost == 0 || heard+int(lost) != sent {
		t.Errorf("of %d sent, %d heard and %d lost, %v", sent, heard, lost, err)
	}
}
