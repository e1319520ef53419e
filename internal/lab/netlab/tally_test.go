package netlab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTally(t *testing.T) {
	var tally Tally
	for _, p := range []string{"a 0", "a 2", "b 0", "a 1", "a 2", "c", "c x", "c -1"} {
		tally.Note([]byte(p))
	}
	const want = "5 received in 2 streams, 1 duplicates, 1 out of order, 3 strange payloads"
	if got := tally.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := tally.Missing("a", 3); got != nil {
		t.Errorf("a: missing %q, want none", got)
	}
	if diff := cmp.Diff([]string{"b 1", "b 2"}, tally.Missing("b", 3)); diff != "" {
		t.Errorf("b (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"d 0"}, tally.Missing("d", 1)); diff != "" {
		t.Errorf("d (-want +got):\n%s", diff)
	}
}
