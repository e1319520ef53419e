package receive_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/internal/lab/fake"
)

// flush discards what waits for the first rule.
func (b *rig) flush(t testing.TB, patience time.Duration) account.Flushed {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return b.receive.Flush(ctx, b.working.Rules[0], time.Now())
}

func TestWhatIsFlushedDoesNotReachTheBroker(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "one", "239.1.1.1:5000", "one"), fake.ReceiveRule(t, "two", "239.1.1.2:5000", "two"))
	var payloads []string
	for i := range 700 {
		payloads = append(payloads, fmt.Sprint(i))
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, payloads...)
	n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "kept")
	b.spooled(t, 701)
	if got, want := b.flush(t, 10*time.Second), (account.Flushed{Rule: "one", Disk: 700}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "after")
	b.spooled(t, 2)
	b.connect(true)
	if got := p.Deliver(t, 2); len(got) != 2 {
		t.Errorf("%q", got)
	}
	if s := b.Status().Receive; s[0].Drops["flushed"] != 700 || s[0].Published != 1 || len(s[1].Drops) > 0 || s[1].Published != 1 {
		t.Errorf("%+v", s)
	}
}

// What is on its way to the broker is not discarded, for it may be there already; what is on disk behind
// it is, as soon as that is known, and nothing that has come since.
func TestWhatIsBehindABatchOnItsWayIsFlushedOnceThatIsSettled(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "one", "239.1.1.1:5000", "one"))
	var payloads []string
	for i := range 600 {
		payloads = append(payloads, fmt.Sprint(i))
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, payloads...)
	b.spooled(t, 600)
	b.connect(true)
	p.Await(t, 256)
	b.connect(false)
	if got, want := b.flush(t, 50*time.Millisecond), (account.Flushed{Rule: "one", Left: true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "after")
	fake.WaitFor(t, "it is on disk", func() bool { return b.options.Spool.On.Undecided() == 0 && b.options.Spool.On.Len() == 601 })
	p.Acknowledge()
	fake.WaitFor(t, "the rest is discarded", func() bool { return b.Status().Receive[0].Drops["flushed"] == 600-256 })
	b.connect(true)
	p.Deliver(t, 257)
	if s := b.Status().Receive[0]; s.Published != 257 || s.Drops["flushed"] != 600-256 {
		t.Errorf("%+v", s)
	}
}
