package multicast

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinksTellWhatReturned(t *testing.T) {
	const index = 7
	off, on := link{}, link{works: true}
	ups := func(n uint32) link { return link{works: true, ups: n} }
	for _, tt := range []struct {
		name string
		seen []link // the first is how it was
		want int    // how often it returned
	}{
		{"a new one", []link{on}, 0},
		{"nothing happens", []link{on, on, on}, 0},
		{"back", []link{on, off, on}, 1},
		{"back twice", []link{on, off, on, off, on}, 2},
		{"down and still down", []link{off, off}, 0},
		{"away between two messages", []link{ups(1), ups(2)}, 1},
		{"told twice", []link{ups(1), ups(2), ups(2)}, 1},
		{"told late of what is known", []link{ups(3), ups(2), ups(3)}, 0},
		{"messages without a count", []link{ups(3), on, ups(3)}, 0},
		{"carrier while down", []link{ups(1), {ups: 2}, ups(2)}, 1},
	} {
		ls, c := make(links), Change{}
		for _, l := range tt.seen {
			ls.see(index, l, &c)
		}
		if len(c.Returned) != tt.want || len(c.Deleted) != 0 || c.Overflow {
			t.Errorf("%s: %+v, want %d times", tt.name, c, tt.want)
		}
	}
	// An index that belongs to another interface now starts anew.
	ls, c := make(links), Change{}
	ls.see(index, ups(9), &c)
	ls.lose(index, &c)
	ls.see(index, ups(1), &c)
	ls.see(index, ups(2), &c)
	if d := cmp.Diff(Change{Deleted: []int{index}, Returned: []int{index}}, c); d != "" {
		t.Errorf("recreated: want -, got +:\n%s", d)
	}
}
