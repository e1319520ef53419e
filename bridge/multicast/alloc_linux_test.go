//go:build !race

package multicast

import "testing"

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
