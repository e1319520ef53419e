package bridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// A spoilt spool's folder is not there, and a file in its place. mend is the end of
// that: there is the folder, with what it held before.
func spoil(t *testing.T, dir string) (mend func()) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		// At once, for else the spool would make another folder in between.
		link := dir + "-link"
		if err := errors.Join(os.Symlink(dir+"-away", link), os.Rename(link, dir)); err != nil {
			t.Fatal(err)
		}
	}
}

// awaited is a bridge of a rule of each kind, whose source and broker are away.
func awaited(t *testing.T, dir string) (*Bridge, *fake.Network, *fake.Publisher) {
	t.Helper()
	b, n, p := bridgeSpooling(t, dir, 1<<20, Options{Spool: Spool{Dir: dir}},
		[]mapping.SendRule{fake.SendRule(t, "s", "t/{id}", "239.1.1.{id}:5000", fake.OnPriv)}, fake.ReceiveRule(t, "r", "239.2.1.1:5000", "u"))
	return b, n, p
}

// spoolSays is what can be seen of the spool: whether it is ready, the condition, the
// metrics.
func (b *Bridge) spoolSays(t *testing.T) (condition, status string, usable float64) {
	t.Helper()
	b.conditions(b.current().overview(BrokerStatus{Connected: true}, session.State{}, time.Now()), func(c Condition) {
		if c.Name == "spool" {
			condition = c.String()
		}
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(b)
	for _, name := range []string{"topicast_spool_usable", "topicast_spool_messages", "topicast_spool_bytes"} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != 1 {
			t.Errorf("%d series of %s, %v", n, name, err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "topicast_spool_usable" {
			usable = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return condition, b.Status().Spool.Error, usable
}

// Unusable at the start: what comes waits in memory, and goes to the disk, behind what
// is there already, as soon as that can be used.
func TestASpoolThatCannotBeUsedAtTheStartIsUsedWhenItCan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	earlier := fake.OpenSpool(t, dir, 1<<20)
	for q, topic := range map[string]string{"s": "t/1", "r\x00received": "u"} {
		for i := range 3 {
			earlier.Queue(q).Append(spool.Record{Topic: []byte(topic), Payload: fmt.Append(nil, i), Flags: 1}, nil)
		}
	}
	if err := earlier.Close(); err != nil {
		t.Fatal(err)
	}
	mend := spoil(t, dir)
	b, n, p := awaited(t, dir)
	condition, status, usable := b.spoolSays(t)
	if !strings.HasPrefix(condition, "spool: pending: ") || !strings.Contains(condition, "not a directory; name a folder") || status == "" || usable != 0 {
		t.Errorf("condition %q, status %q, usable %v", condition, status, usable)
	}
	for i := 3; i < 10; i++ {
		b.send.Handle([]session.Message{fake.Message("t/1", fmt.Sprint(i), 1)})
		n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
	}
	fake.WaitFor(t, "all in memory", func() bool { return b.Status().Queue.Messages == 14 })
	b.checkSpool() // nothing yet
	if got := b.Status(); got.Queue.Messages != 14 || got.Spool.Messages != 0 || len(got.Rules[0].Drops)+len(got.Receive[0].Drops) > 0 {
		t.Fatalf("%d in memory, %d on disk, drops %v and %v", got.Queue.Messages, got.Spool.Messages, got.Rules[0].Drops, got.Receive[0].Drops)
	}
	mend()
	fake.WaitFor(t, "all on disk", func() bool {
		b.checkSpool()
		s := b.Status()
		return s.Queue.Messages == 0 && s.Spool.Messages == 20
	})
	if condition, status, usable := b.spoolSays(t); condition != "" || status != "" || usable != 1 {
		t.Errorf("condition %q, status %q, usable %v", condition, status, usable)
	}
	n.Set(fake.Iso0, fake.Priv0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "ten datagrams", func() bool { return len(n.From("priv0")) == 10 })
	fake.InOrder(t, n.From("priv0"), 9)
	b.connect(true)
	for i, line := range p.Deliver(t, 10) {
		if line != fmt.Sprint("u ", i) {
			t.Errorf("message %d is %q", i, line)
		}
	}
}

// Unusable later, and usable again, with what it held.
func TestASpoolThatBreaksLaterLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b, n, p := awaited(t, dir)
	both := func(first, last int) {
		for i := first; i <= last; i++ {
			b.send.Handle([]session.Message{fake.Message("t/1", fmt.Sprint(i), 1)})
			n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
		}
	}
	both(0, 2)
	b.allOnDisk(t)
	b.spooled(t, 6)
	mend := spoil(t, dir)
	both(3, 5)
	fake.WaitFor(t, "trouble", func() bool { condition, _, usable := b.spoolSays(t); return condition != "" && usable == 0 })
	both(6, 9)
	if got := b.Status(); len(got.Rules[0].Drops)+len(got.Receive[0].Drops) > 0 || got.Queue.Messages == 0 {
		t.Errorf("%d in memory, drops %v and %v", got.Queue.Messages, got.Rules[0].Drops, got.Receive[0].Drops)
	}
	mend()
	fake.WaitFor(t, "all on disk", func() bool {
		b.checkSpool()
		s := b.Status()
		return s.Queue.Messages == 0 && s.Spool.Messages == 20
	})
	n.Set(fake.Iso0, fake.Priv0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "ten datagrams", func() bool { return len(n.From("priv0")) == 10 })
	fake.InOrder(t, n.From("priv0"), 9)
	b.connect(true)
	if got := p.Deliver(t, 10); len(got) != 10 || got[0] != "u 0" || got[9] != "u 9" {
		t.Errorf("published %q", got)
	}
}

// What the spool holds leaves while it takes nothing.
func TestWhatIsOnDiskLeavesWhileTheSpoolTakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b, n, _ := awaited(t, dir)
	b.numbered("t/1", 0, 2)
	b.allOnDisk(t)
	spoil(t, dir)
	b.numbered("t/1", 3, 9)
	fake.WaitFor(t, "trouble", func() bool { return b.options.Spool.On.Err() != nil })
	n.Set(fake.Iso0, fake.Priv0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "ten datagrams", func() bool {
		b.checkSpool() // as watch does
		return len(n.From("priv0")) == 10
	})
	fake.InOrder(t, n.From("priv0"), 9)
}

func TestASpoolThatNothingUsesKeepsNobodyFromBeingReady(t *testing.T) {
	for name, c := range map[string]struct {
		send    []mapping.SendRule
		receive []mapping.ReceiveRule
		want    account.State
	}{
		"spool":   {[]mapping.SendRule{fake.SendRule(t, "s", "t", "239.1.1.1:5000", func(r *mapping.SendRule) { r.QoS = 1 })}, nil, account.StatePending},
		"latest":  {[]mapping.SendRule{fake.SendRule(t, "s", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownLatest))}, nil, account.StatePending},
		"drop":    {[]mapping.SendRule{fake.SendRule(t, "s", "t", "239.1.1.1:5000", fake.OnDown(mapping.OnDownDrop), func(r *mapping.SendRule) { r.QoS = 1 })}, nil, account.StateDegraded},
		"receive": {nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}, account.StatePending},
		"qos 0":   {nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.QoS = 0 })}, account.StateDegraded},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBridgeOf(t, &fake.Network{}, Options{QueueSize: fake.Plenty, Spool: Spool{Dir: "/x", Err: spool.ErrInUse}}, c.send, c.receive)
			var got account.State
			b.conditions(b.current().overview(BrokerStatus{Connected: true}, session.State{}, time.Now()), func(c Condition) {
				if c.Name == "spool" {
					got = c.State
				}
			})
			if got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
		})
	}
}

// At the end nothing is acknowledged that is nowhere, nor waited for in vain.
func TestAtTheEndASpoolThatCannotBeUsedIsNotWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b, _, _ := awaited(t, dir)
	spoil(t, dir)
	b.numbered("t/1", 0, 2)
	fake.WaitFor(t, "trouble", func() bool { return b.options.Spool.On.Err() != nil })
	b.newEnding().spill(theEnd.spilled) // 6 s if it waited
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.Status().Rules[0].Drops; len(got) > 0 {
		t.Errorf("drops %v: the broker has them all", got)
	}
}
