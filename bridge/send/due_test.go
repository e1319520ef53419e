package send_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"topicast/bridge/send"
)

// checkDue checks that what a heap holds is what it is to hold, each where it says that it is.
func checkDue(t *testing.T, h *send.DueHeap, want map[*send.DueItem]bool) {
	t.Helper()
	if len(h.All) != len(want) {
		t.Fatalf("the heap holds %d, want %d", len(h.All), len(want))
	}
	for at, item := range h.All {
		if !want[item] || item.Place() != at {
			t.Fatalf("%+v is at %d of the heap; it is to be there: %v", *item, at, want[item])
		}
	}
	if len(want) > 0 {
		if first := slices.MinFunc(h.All, byTime); h.All[0] != first {
			t.Fatalf("%+v is in front of %+v", *h.All[0], *first)
		}
	}
}

func byTime(a, b *send.DueItem) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Turn, b.Turn))
}

// Whatever is put in, moved and taken out, the first is in front, and what is left comes in
// order; what is at one time in that of its turn, here of arrival.
func TestWhatIsDueFirstIsInFront(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h send.DueHeap
	in := make(map[*send.DueItem]bool)
	for turn := range 20_000 {
		grow := turn/2000%2 == 0
		switch what := random.IntN(4); {
		case len(in) == 0 || what == 0 || what == 1 && grow:
			item := &send.DueItem{Time: random.IntN(50), Turn: turn}
			h.Push(item)
			in[item] = true
		case what == 1 || what == 2 && !grow:
			item := h.All[random.IntN(len(h.All))]
			h.Remove(item)
			delete(in, item)
		default:
			item := h.All[random.IntN(len(h.All))]
			item.Time = random.IntN(50)
			h.Fix(item)
		}
		checkDue(t, &h, in)
	}
	if len(in) == 0 {
		t.Fatal("nothing is left to come in order")
	}
	for before := h.All[0]; len(h.All) > 0; {
		first := h.All[0]
		if byTime(before, first) > 0 {
			t.Fatalf("%+v comes before %+v", *before, *first)
		}
		h.Remove(first)
		delete(in, first)
		checkDue(t, &h, in)
		before = first
	}
}

// What was taken out is not kept alive by the memory of the heap.
func TestWhatIsDueNoMoreIsNotKept(t *testing.T) {
	var h send.DueHeap
	for i := range 100 {
		h.Push(&send.DueItem{Time: i})
	}
	for at := 99; len(h.All) > 0; at = (at * 7) % max(1, len(h.All)) {
		h.Remove(h.All[at])
	}
	for at, item := range h.All[:cap(h.All)] {
		if item != nil {
			t.Errorf("%+v is still at %d", *item, at)
		}
	}
}
