package mapping

import (
	"slices"
	"testing"
)

// The set says what a look at each of its filters would.
func TestAFilterSetFindsTheFirstFilterThatCovers(t *testing.T) {
	var all []Filter
	for _, text := range []string{"a/b", "a/+", "a/#", "+/b", "#", "$SYS/#", "a", "a/b/c", "+", "a/{x}/c", "b/#", "a/+/+"} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	for n := range all {
		for start := range all[n:] {
			in := all[start : start+n]
			set := NewFilterSet(in)
			for _, f := range all {
				want := slices.IndexFunc(in, func(g Filter) bool { return g.Covers(f) })
				if got := set.Covering(f); got != want {
					t.Errorf("%v covering %s: %d, want %d", in, f, got, want)
				}
			}
		}
	}
	if got := NewFilterSet(all).Covering(Filter{}); got != -1 {
		t.Errorf("of none: %d", got)
	}
}

func TestAFilterSetIsAskedWithoutGarbage(t *testing.T) {
	f, err := ParseFilter("a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	set := NewFilterSet([]Filter{f})
	if n := testing.AllocsPerRun(100, func() { set.Covering(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
