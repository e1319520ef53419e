//go:build !race

package multicast

import (
	"net/netip"
	"testing"
	"time"
)

// Under the race detector sync.Pool forgets on purpose, and this cannot be told.
func TestSendDoesNotAllocate(t *testing.T) {
	s := openAt(t, at127(2))
	failed := func(i int, err error) { t.Errorf("datagram %d: %v", i, err) }
	for _, tt := range []struct{ n, groups int }{{1, 1}, {8, 2}, {64, 2}, {64, 1}, {200, 3}, {200, 1}} {
		batch := groupsOf(tt.n, tt.groups, 9999)
		if n := testing.AllocsPerRun(200, func() { s.Send(batch, failed) }); n != 0 {
			t.Errorf("%d datagrams to %d groups: %v allocations", tt.n, tt.groups, n)
		}
	}
}

// It is asked after every batch that is acknowledged.
func TestCarrierDoesNotAllocate(t *testing.T) {
	s := openAt(t, at127(2))
	if n := testing.AllocsPerRun(200, func() {
		if err := s.Carrier(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Neither does Receive, whether it has to wait or not, nor with sources to check.
func TestReceiveDoesNotAllocate(t *testing.T) {
	s := openAt(t, at127(2))
	failed := func(i int, err error) { t.Errorf("datagram %d: %v", i, err) }
	for _, sources := range [][]netip.Addr{nil, {netip.MustParseAddr("127.0.0.2")}} {
		r := hear(t, "239.9.9.0:0", ReceiverOptions{Sources: sources})
		r.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for _, n := range []int{1, 8, MaxReceive, 200} {
			batch, got := groupsOf(n, 1, r.Group().Port()), make([]Datagram, MaxReceive)
			allocs := testing.AllocsPerRun(200, func() {
				s.Send(batch, failed)
				for left := n; left > 0; {
					k, err := r.Receive(got)
					if err != nil {
						t.Fatal(err)
					}
					left -= k
				}
			})
			if allocs != 0 {
				t.Errorf("%d datagrams from %v: %v allocations", n, sources, allocs)
			}
		}
		waiting, told := make(chan struct{}), make(chan error)
		go func() {
			for batch := make([]Datagram, 1); ; {
				if _, open := <-waiting; !open {
					return
				}
				_, err := r.Receive(batch)
				told <- err
			}
		}()
		one := groupsOf(1, 1, r.Group().Port())
		allocs := testing.AllocsPerRun(200, func() {
			waiting <- struct{}{}
			s.Send(one, failed)
			if err := <-told; err != nil {
				t.Fatal(err)
			}
		})
		close(waiting)
		if allocs != 0 {
			t.Errorf("waiting: %v allocations", allocs)
		}
	}
}
