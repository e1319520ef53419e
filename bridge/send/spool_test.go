package send_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// numbered hands over messages with the numbers from first to last.
func (b *rig) numbered(topic string, first, last int) {
	for i := first; i <= last; i++ {
		b.send.Handle([]session.Message{fake.Message(topic, fmt.Sprint(i), 1)})
	}
}

// What waits in memory because the spool cannot be used is acknowledged in order, and only
// once it is on disk.
func TestASpoolThatReturnsHasAllAcknowledgedInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder is to be
		t.Fatal(err)
	}
	s := fake.OpenSpool(t, dir, 1<<20)
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	b.numbered("t", 3, 9)
	acks := b.acks()
	b.send.SpoolIsBack() // it is not
	if got := acks.list(); len(got) > 0 || b.Status().Queue.Messages != 7 {
		t.Errorf("acknowledged %q, and %d of 7 wait in memory", got, b.Status().Queue.Messages)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	fake.WaitFor(t, "all on disk", func() bool {
		if s.Err() == nil { // as the bridge looks once a second
			b.send.SpoolIsBack()
		}
		return b.Status().Queue.Messages == 0 && s.Len() == 7
	})
	if got := acks.wait(7); !slices.Equal(got, []string{"3", "4", "5", "6", "7", "8", "9"}) {
		t.Errorf("acknowledged %q", got)
	}
}

func TestWhatIsOnDiskFollowsItsRuleToAnotherSource(t *testing.T) {
	const last = 999
	old, next := fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "r", "t", "239.3.3.3:5000", fake.OnPriv)
	t.Run("from a source that is away", func(t *testing.T) {
		n := &fake.Network{}
		n.Set(fake.Priv0)
		b := spooling(t, n, old)
		b.numbered("t", 0, last-1)
		b.reload(t, []mapping.SendRule{next}, nil) // while some are still on their way to the disk
		b.numbered("t", last, last)
		fake.WaitFor(t, "all", func() bool { return len(n.From("priv0")) == last+1 })
		fake.InOrder(t, n.From("priv0"), last)
		if line := n.From("priv0")[0]; line != "239.3.3.3:5000 0" {
			t.Errorf("the first is %q", line)
		}
		fake.WaitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
	})
	t.Run("from one that is just emptying it", func(t *testing.T) {
		n := &fake.Network{}
		b := spooling(t, n, old)
		b.numbered("t", 0, last-100)
		b.spilled(t)
		n.Slow = time.Millisecond
		n.Set(fake.Iso0, fake.Priv0)
		b.reconcile(context.Background())
		fake.WaitFor(t, "the first", func() bool { return len(n.From("iso0")) > 0 })
		b.reload(t, []mapping.SendRule{next}, nil)
		if len(n.From("iso0")) > last-100 {
			t.Error("the old binding had emptied it before")
		}
		b.numbered("t", last-99, last)
		fake.WaitFor(t, "all", func() bool { return len(n.From("iso0"))+len(n.From("priv0")) == last+1 })
		fake.InOrder(t, append(n.From("iso0"), n.From("priv0")...), last)
	})
	t.Run("to one that is away, and back", func(t *testing.T) {
		n := &fake.Network{}
		n.Set(fake.Iso0)
		b := spooling(t, n, old)
		n.LastSocket().Allow(10, nil)
		<-n.LastSocket().Free
		b.numbered("t", 0, 500)
		b.reload(t, []mapping.SendRule{next}, nil)
		b.numbered("t", 501, last)
		b.spilled(t)
		if got := b.Status(); got.Queue.Messages != 0 || got.Spool.Messages != last+1-10 {
			t.Errorf("%d in memory and %d on disk", got.Queue.Messages, got.Spool.Messages)
		}
		b.reload(t, []mapping.SendRule{old}, nil)
		fake.WaitFor(t, "all", func() bool { return len(n.From("iso0")) == last+1 })
		fake.InOrder(t, n.From("iso0"), last)
	})
}

// The wake-up after a commit has to reach the binding that has the rule by then.
func TestWhatIsCommittedAfterAReloadIsSentByTheNewBinding(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Priv0)
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	for i := range 200 {
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil) // its source is away
		b.numbered("t", i, i)                                                              // the disk has not got it yet
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnPriv, func(r *mapping.SendRule) { r.Binding.TTL = uint8(1 + i%2) })}, nil)
		fake.WaitFor(t, fmt.Sprint("message ", i), func() bool { return len(n.From("priv0")) == i+1 })
	}
	fake.InOrder(t, n.From("priv0"), 199)
}

// tidy may be at work with a rule of the table before.
func TestTidyingForARuleOfTheTableBeforeLosesNothing(t *testing.T) {
	n := &fake.Network{}
	latest := fake.OnDown(mapping.OnDownLatest)
	b := spooling(t, n, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", latest))
	for i := range 10 {
		b.send.Handle([]session.Message{fake.Message(fmt.Sprint("t/", i), "x", 1)})
	}
	b.spilled(t)
	old := b.working.Rules[0]
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", latest, fake.MaxAge(time.Hour))}, nil)
	old.Tidy()
	b.spilled(t)
	if got := b.Status(); got.Spool.Messages != 10 || got.Rules[0].Drops != nil {
		t.Errorf("%d on disk, drops %v", got.Spool.Messages, got.Rules[0].Drops)
	}
}

// Which message on disk is the latest of its topic is known after a reload too.
func TestTheLatestOnDiskIsKnownAfterAReload(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Priv0)
	latest := fake.OnDown(mapping.OnDownLatest)
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", latest))
	for i := range 10 {
		b.numbered("t", i, i)
		time.Sleep(time.Microsecond)
	}
	b.spilled(t)
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", latest, fake.OnPriv)}, nil)
	fake.WaitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
	if diff := cmp.Diff([]string{"239.1.1.1:5000 9"}, n.From("priv0")); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestARuleThatComesBackFindsWhatItHadOnDisk(t *testing.T) {
	for name, away := range map[string][]mapping.SendRule{
		"it was gone":              nil,
		"it did not use the spool": {fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownDrop))},
	} {
		t.Run(name, func(t *testing.T) {
			n := &fake.Network{}
			b := spoolingFor(t, n, time.Hour, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
			b.numbered("t", 0, 9)
			b.reload(t, away, nil)
			b.spilled(t)
			fake.WaitFor(t, "the disk to be of no use", func() bool { return slices.Equal(b.send.Unused(), []string{"r"}) })
			b.reload(t, away, nil) // is known for longer than one table
			b.send.ExpireOld()
			if got := b.options.Spool.On.Len(); got != 10 {
				t.Fatalf("%d on disk", got)
			}
			n.Set(fake.Iso0)
			b.reconcile(context.Background())
			b.numbered("t", 100, 100) // no rule, or sent at once
			b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.3.3.3:5000")}, nil)
			fake.WaitFor(t, "all", func() bool { return len(n.LastSocket().Took()) >= 10 && b.options.Spool.On.Len() == 0 })
			lines := slices.DeleteFunc(n.From("iso0"), func(line string) bool { return strings.HasSuffix(line, " 100") })
			fake.InOrder(t, lines, 9)
		})
	}
}

func TestWhatNoRuleUsesIsDroppedWhenItIsTooOld(t *testing.T) {
	b := spoolingFor(t, &fake.Network{}, time.Nanosecond, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	b.numbered("t", 0, 9)
	b.reload(t, nil, nil)
	fake.WaitFor(t, "what no rule uses to go", func() bool { b.send.ExpireOld(); return b.options.Spool.On.Len() == 0 })
	for name, c := range b.send.Removed() {
		if got := c.Of(account.ReasonExpired); name == "r" && got != 10 || name != "r" && got != 0 {
			t.Errorf("%d of rule %q counted as expired, want 10 of r", got, name)
		}
	}
}

// What a rule decoded while it did not use the spool goes there as it came, once it does.
func TestWhatWaitsForABusySocketGoesToTheDiskAsItCame(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Iso0)
	hex := func(r *mapping.SendRule) { r.Payload = fake.MustPayload(t, "hex") }
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", hex, fake.OnDown(mapping.OnDownDrop)))
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	b.send.Handle([]session.Message{fake.Message("t", "6869", 1)})
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", hex)}, nil)
	b.spillAll(t)
	b.spilled(t)
	var record [1]spool.Record
	if count, _ := b.options.Spool.On.Queue(b.options.Spool.On.Names()[0]).Front(record[:], 0); count != 1 || string(record[0].Payload) != "6869" {
		t.Errorf("%d on disk, %q", count, record[0].Payload)
	}
}

// What was read from the disk before a reload is not given up after it, as if no rule took it: the
// rule that has the disk now reads it again.
func TestWhatIsReadAcrossAReloadIsLeftToTheRuleThatHasItNow(t *testing.T) {
	b := spooling(t, &fake.Network{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	old := b.working.Rules[0]
	if !b.send.Restores(old, "t", "x") {
		t.Error("the rule does not know what it has")
	}
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.2:5000")}, nil)
	if now := b.working.Rules[0]; b.send.Restores(old, "t", "x") || !b.send.Restores(now, "t", "x") {
		t.Error("the rule of before the reload disposes of what is another's")
	}
}
