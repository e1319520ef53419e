package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// numbered hands over messages with the numbers from first to last.
func (b *Bridge) numbered(topic string, first, last int) {
	for i := first; i <= last; i++ {
		b.send.handle([]session.Message{message(topic, fmt.Sprint(i), 1)})
	}
}

// inOrder wants all numbers up to last, each once.
func inOrder(t *testing.T, lines []string, last int) {
	t.Helper()
	for i, line := range lines {
		if _, payload, _ := strings.Cut(line, " "); payload != fmt.Sprint(i) {
			t.Fatalf("%d is %q", i, line)
		}
	}
	if len(lines) != last+1 {
		t.Fatalf("%d came, want %d", len(lines), last+1)
	}
}

func TestWhatIsOnDiskFollowsItsRuleToAnotherSource(t *testing.T) {
	const last = 999
	old, next := rule(t, "r", "t", "239.1.1.1:5000"), rule(t, "r", "t", "239.3.3.3:5000", onPriv)
	t.Run("from a source that is away", func(t *testing.T) {
		n := &fakeNetwork{}
		n.set(priv0)
		b := spooling(t, n, old)
		b.numbered("t", 0, last-1)
		b.reload(t, []mapping.SendRule{next}, nil) // while some are still on their way to the disk
		b.numbered("t", last, last)
		waitFor(t, "all", func() bool { return len(n.from("priv0")) == last+1 })
		inOrder(t, n.from("priv0"), last)
		if line := n.from("priv0")[0]; line != "239.3.3.3:5000 0" {
			t.Errorf("the first is %q", line)
		}
		waitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
	})
	t.Run("from one that is just emptying it", func(t *testing.T) {
		n := &fakeNetwork{}
		b := spooling(t, n, old)
		b.numbered("t", 0, last-100)
		b.stowed(t)
		n.slow = time.Millisecond
		n.set(iso0, priv0)
		b.refresh(context.Background())
		waitFor(t, "the first", func() bool { return len(n.from("iso0")) > 0 })
		b.reload(t, []mapping.SendRule{next}, nil)
		if len(n.from("iso0")) > last-100 {
			t.Error("the old binding had emptied it before")
		}
		b.numbered("t", last-99, last)
		waitFor(t, "all", func() bool { return len(n.from("iso0"))+len(n.from("priv0")) == last+1 })
		inOrder(t, append(n.from("iso0"), n.from("priv0")...), last)
	})
	t.Run("to one that is away, and back", func(t *testing.T) {
		n := &fakeNetwork{}
		n.set(iso0)
		b := spooling(t, n, old)
		n.socket().allow(10, nil)
		<-n.socket().free
		b.numbered("t", 0, 500)
		b.reload(t, []mapping.SendRule{next}, nil)
		b.numbered("t", 501, last)
		b.stowed(t)
		if got := b.Status(); got.Queue.Messages != 0 || got.Spool.Messages != last+1-10 {
			t.Errorf("%d in memory and %d on disk", got.Queue.Messages, got.Spool.Messages)
		}
		b.reload(t, []mapping.SendRule{old}, nil)
		waitFor(t, "all", func() bool { return len(n.from("iso0")) == last+1 })
		inOrder(t, n.from("iso0"), last)
	})
}

// The wake-up after a commit has to reach the binding that has the rule by then.
func TestWhatIsCommittedAfterAReloadIsSentByTheNewBinding(t *testing.T) {
	n := &fakeNetwork{}
	n.set(priv0)
	b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000"))
	for i := range 200 {
		b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000")}, nil) // its source is away
		b.numbered("t", i, i)                                                     // the disk has not got it yet
		b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", onPriv, func(r *mapping.SendRule) { r.Binding.TTL = uint8(1 + i%2) })}, nil)
		waitFor(t, fmt.Sprint("message ", i), func() bool { return len(n.from("priv0")) == i+1 })
	}
	inOrder(t, n.from("priv0"), 199)
}

// tidy may be at work with a rule of the table before.
func TestTidyingForARuleOfTheTableBeforeLosesNothing(t *testing.T) {
	n := &fakeNetwork{}
	latest := onDown(mapping.OnDownLatest)
	b := spooling(t, n, rule(t, "r", "t/{id}", "239.1.1.{id}:5000", latest))
	for i := range 10 {
		b.send.handle([]session.Message{message(fmt.Sprint("t/", i), "x", 1)})
	}
	b.stowed(t)
	old := b.parts().sends[0]
	b.reload(t, []mapping.SendRule{rule(t, "r", "t/{id}", "239.1.1.{id}:5000", latest, maxAge(time.Hour))}, nil)
	old.binding.compact(old, time.Now(), new(diskWork))
	b.stowed(t)
	if got := b.Status(); got.Spool.Messages != 10 || got.Rules[0].Drops != nil {
		t.Errorf("%d on disk, drops %v", got.Spool.Messages, got.Rules[0].Drops)
	}
}

// Which message on disk is the latest of its topic is known after a reload too.
func TestTheLatestOnDiskIsKnownAfterAReload(t *testing.T) {
	n := &fakeNetwork{}
	n.set(priv0)
	latest := onDown(mapping.OnDownLatest)
	b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000", latest))
	for i := range 10 {
		b.numbered("t", i, i)
		time.Sleep(time.Microsecond)
	}
	b.stowed(t)
	b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", latest, onPriv)}, nil)
	waitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
	if diff := cmp.Diff([]string{"239.1.1.1:5000 9"}, n.from("priv0")); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestARuleThatComesBackFindsWhatItHadOnDisk(t *testing.T) {
	for name, away := range map[string][]mapping.SendRule{
		"it was gone":              nil,
		"it did not use the spool": {rule(t, "r", "t", "239.1.1.1:5000", onDown(mapping.OnDownDrop))},
	} {
		t.Run(name, func(t *testing.T) {
			n := &fakeNetwork{}
			b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000"))
			b.options.Spool.MaxAge = time.Hour
			was := b.parts().sends[0].disk
			b.numbered("t", 0, 9)
			b.reload(t, away, nil)
			b.stowed(t)
			waitFor(t, "the disk to be an orphan", func() bool { return slices.Equal(b.orphans(), []string{"r"}) })
			b.reload(t, away, nil) // is known for longer than one table
			b.tidy(time.Now())
			if got := b.options.Spool.On.Len(); got != 10 {
				t.Fatalf("%d on disk", got)
			}
			n.set(iso0)
			b.refresh(context.Background())
			b.numbered("t", 100, 100) // no rule, or sent at once
			b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.3.3.3:5000")}, nil)
			waitFor(t, "all", func() bool { return len(n.socket().took()) >= 10 && b.options.Spool.On.Len() == 0 })
			lines := slices.DeleteFunc(n.from("iso0"), func(line string) bool { return strings.HasSuffix(line, " 100") })
			inOrder(t, lines, 9)
			if b.parts().sends[0].disk != was {
				t.Error("there are two that take from one queue")
			}
		})
	}
}

func TestAnOrphanIsDroppedWhenItIsTooOld(t *testing.T) {
	b := spooling(t, &fakeNetwork{}, rule(t, "r", "t", "239.1.1.1:5000"))
	b.options.Spool.MaxAge = 20 * time.Millisecond
	b.numbered("t", 0, 9)
	b.reload(t, nil, nil)
	time.Sleep(25 * time.Millisecond)
	waitFor(t, "the orphan to go", func() bool { b.tidy(time.Now()); return b.options.Spool.On.Len() == 0 })
}

// What waits for an address is not published, should a rule of that name come to go
// the other way.
func TestARuleThatTurnsRoundDoesNotTakeWhatItHadOnDisk(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", onPriv)})
	b.numbered("t", 0, 2)
	b.stowed(t)
	b.connect(true)
	b.reload(t, nil, []mapping.ReceiveRule{listenRule(t, "r", "239.2.1.1:5000", "t")})
	n.at("239.2.1.1:5000", "iso0").hear(device, "x")
	if got := p.deliver(t, 1); !slices.Equal(got, []string{"t x"}) {
		t.Errorf("published %q", got)
	}
	if got := b.orphans(); !slices.Equal(got, []string{"r"}) {
		t.Errorf("orphans %q", got)
	}
}

// What a rule decoded while it did not use the spool goes there as it came, once it does.
func TestWhatWaitsForABusySocketGoesToTheDiskAsItCame(t *testing.T) {
	n := &fakeNetwork{}
	n.set(iso0)
	hex := func(r *mapping.SendRule) { r.Payload = mustPayload(t, "hex") }
	b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000", hex, onDown(mapping.OnDownDrop)))
	n.socket().allow(0, nil)
	<-n.socket().free
	b.send.handle([]session.Message{message("t", "6869", 1)})
	b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", hex)}, nil)
	b.retire(t.Context())
	b.stowed(t)
	var record [1]spool.Record
	if count, _ := b.options.Spool.On.Queue("r").Front(record[:], time.Now(), 0); count != 1 || string(record[0].Payload) != "6869" {
		t.Errorf("%d on disk, %q", count, record[0].Payload)
	}
}
