package send_test

import (
	"fmt"
	"testing"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What waits needs nothing of what is remembered, and does not keep it.
func TestTheLatestOfATopicIsKnownThoughTheTopicIsForgotten(t *testing.T) {
	n := new(fake.Network)
	latest := func(r *mapping.SendRule) { r.OnDown = mapping.OnDownLatest }
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "+", "239.1.1.1:5000", latest))
	for i := range 5 {
		b.send.Handle([]session.Message{fake.Message("a", fmt.Sprint("a", i), 0), fake.Message("b", fmt.Sprint("b", i), 1)})
		b.send.ForgetTopics()
	}
	if got := b.Status().Rules[0]; got.WaitingMemory != 2 || got.Drops["superseded"]+got.Filtered["superseded"] != 8 {
		t.Errorf("%d wait, drops %v, filtered %v", got.WaitingMemory, got.Drops, got.Filtered)
	}
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "the latest", func() bool { return len(n.LastSocket().Took()) == 2 })
	if got := fmt.Sprint(n.LastSocket().Took()); got != "[239.1.1.1:5000 a4 239.1.1.1:5000 b4]" {
		t.Errorf("sent %s", got)
	}
	b.send.Drained(t.Context())
	if b.send.KeepsQueues() {
		t.Error("something is kept of an empty queue")
	}
}

func TestWhatWaitsCountsItsTopic(t *testing.T) {
	const topics, length = 1000, 60_000
	b := newRig(t, new(fake.Network), 100*length, fake.SendRule(t, "r", "#", "239.1.1.1:5000"))
	for i := range topics {
		b.send.Handle([]session.Message{fake.Message(fmt.Sprintf("%0*d", length, i), "x", 1)})
	}
	if got := b.budget.Count(); got == 0 || got >= 100 {
		t.Errorf("%d wait in room for 100 topics", got)
	}
}
