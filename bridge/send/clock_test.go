package send_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Messages of one batch came at the same moment, and yet one is the latest.
func TestOfMessagesThatCameAtOnceTheLastIsTheLatestOnDisk(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownLatest)))
	b.numbered("t", 0, 99)
	batch := make([]session.Message, 100)
	for i := range batch {
		batch[i] = fake.Message("t", fmt.Sprint(100+i), 1)
	}
	b.send.Handle(batch)
	b.spilled(t)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
	if diff := cmp.Diff([]string{"239.1.1.1:5000 199"}, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0].Filtered["superseded"]; got != 199 {
		t.Errorf("%d superseded, want 199", got)
	}
}
