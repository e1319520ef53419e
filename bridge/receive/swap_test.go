package receive_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestTheRulesOfAGroupChangeWhileDatagramsComeIn(t *testing.T) {
	one, two := fake.ReceiveRule(t, "one", "239.1.1.1:5000", "one/{source}"), fake.ReceiveRule(t, "two", "239.1.1.1:5000", "two/{source}")
	got := receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{one}, func(b *rig, n *fake.Network) {
		hear := func(payload string) {
			n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, payload)
			synctest.Wait()
		}
		hear("a")
		heard := b.working.Reader(0).Heard()
		b.reload(t, nil, []mapping.ReceiveRule{one})
		hear("b")
		if b.working.Reader(0).Heard() != heard {
			t.Error("what is known of the senders is forgotten though nothing changed")
		}
		b.reload(t, nil, []mapping.ReceiveRule{one, two})
		hear("c")
		b.reload(t, nil, []mapping.ReceiveRule{two, fake.ReceiveRule(t, "one", "239.1.1.1:5000", "uno")})
		hear("d")
		b.reload(t, nil, []mapping.ReceiveRule{two})
		hear("e")
		if _, receivers, inUse := n.Opened(); receivers != 1 || inUse != 1 {
			t.Errorf("%d receivers opened, %d in use; want one for all the time", receivers, inUse)
		}
		b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "one", "239.1.1.9:5000", "uno")})
		if n.At("239.1.1.1:5000", "iso0") != nil {
			t.Error("the group is still joined")
		}
		if _, bytes := b.receive.Topics(); bytes != 0 {
			t.Errorf("topics of rules that are gone take %d bytes", bytes)
		}
	})
	want := []string{"one/172.17.0.9 a", "one/172.17.0.9 b", "one/172.17.0.9 c", "two/172.17.0.9 c", "two/172.17.0.9 d", "uno d", "two/172.17.0.9 e"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAChangedRulePublishesFirstWhatItHeldBack(t *testing.T) {
	loops := guarded
	loops.Delay = 100 * time.Millisecond
	send, receive := cycle(t)
	for name, c := range map[string]struct {
		before, after []mapping.ReceiveRule
		want          []string
	}{
		"every": {[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.7.7.7:5000", "old", fake.Every(time.Hour))},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.7.7.7:5000", "new")}, []string{"old a", "old b", "new c"}},
		"every, gone": {[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.7.7.7:5000", "old", fake.Every(time.Hour))},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "other", "239.7.7.7:5000", "new")}, []string{"old a", "old b", "new c"}},
		"every, elsewhere": {[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.7.7.8:5000", "old", fake.Every(time.Hour))},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.7.7.7:5000", "new", fake.Every(time.Hour))}, []string{"old a", "old b", "new c"}},
		"held": {receive, []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "new")}, []string{"both a", "both b", "new c"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := receiving(t, rigOptions{Loops: loops}, send, c.before, func(b *rig, n *fake.Network) {
				hear := func(payload string) {
					n.LastReceiver().Hear(fake.Device, payload)
					synctest.Wait()
				}
				hear("a")
				hear("b")
				b.reload(t, send, c.after)
				hear("c")
				time.Sleep(time.Second)
				if got := b.budget.Count(); got != 3 { // handed over, and not acknowledged
					t.Errorf("%d messages count as waiting", got)
				}
			})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A batch that is under way when the rules change belongs to the old ones as a
// whole, and nothing of it is held back for later.
func TestABatchUnderWayEndsBeforeTheRulesChange(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Iso0)
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", fake.Every(time.Hour))})
	r := b.working.Reader(0)
	r.Handle(n.Datagrams("a")) // the first goes at once
	done := make(chan struct{})
	r.During(func() {
		go func() {
			defer close(done)
			b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")})
		}()
		time.Sleep(10 * time.Millisecond) // for it to come to where it waits
		if b.working.Rules[0].Every == 0 {
			t.Error("the rules change within a batch")
		}
	}, n.Datagrams("b")[0])
	<-done
	r.Handle(n.Datagrams("c"))
	if diff := cmp.Diff([]string{"t a", "t b", "t c"}, b.publisher().Published()); diff != "" {
		t.Error(diff)
	}
}

func TestAPublishSpoolKeepsItsOrderWhenItsRuleChanges(t *testing.T) {
	r := func(topic string) []mapping.ReceiveRule {
		return []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", topic)}
	}
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, r("a")...)
	spooler := b.working.Rules[0].Spooler()
	var want []string
	for i, topic := range []string{"a", "b", "c", "d"} {
		b.reload(t, nil, r(topic))
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
		want = append(want, fmt.Sprint(topic, " ", i))
		b.spooled(t, i+1)
	}
	b.onDisk(t, 4)
	b.connect(true)
	fake.WaitFor(t, "a flight", func() bool { return len(p.Published()) > 0 })
	b.reload(t, nil, r("e")) // while the broker has not acknowledged them
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4", "5")
	want = append(want, "e 4", "e 5")
	if diff := cmp.Diff(want, p.Deliver(t, 6)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	b.spooled(t, 0)
	if b.working.Rules[0].Spooler() != spooler {
		t.Error("the rule has another spooler")
	}
	if got := b.Status().Receive[0]; got.Published != 6 || got.Drops != nil {
		t.Errorf("%d published, drops %v", got.Published, got.Drops)
	}
	if !b.working.Rules[0].UsesIt() {
		t.Error("the spooler takes by the words of a rule that is gone")
	}
}

func TestAReceiveRuleThatComesBackFindsWhatItHadOnDisk(t *testing.T) {
	r := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}
	direct := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.QoS = 0 })}
	for name, away := range map[string][]mapping.ReceiveRule{"it was gone": nil, "it was of QoS 0": direct} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, r...)
				n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
				b.spooled(t, 2)
				b.reload(t, nil, away)
				b.reload(t, nil, away)
				b.connect(true)
				if got := b.unused(); !slices.Equal(got, []string{"r"}) {
					t.Errorf("unused queues %q", got)
				}
				synctest.Wait() // the pump finds nothing
				if got := p.Published(); got != nil {
					t.Errorf("published %q", got)
				}
				b.reload(t, nil, r) // and nothing else happens
				if diff := cmp.Diff([]string{"t 1", "t 2"}, p.Deliver(t, 2)); diff != "" {
					t.Errorf("published (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What the broker is about to acknowledge is not taken for too old, nor forgotten.
func TestWhatFliesWhenItsRuleGoesIsLetLand(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{Spool: rigSpool{MaxAge: time.Hour}}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	b.onDisk(t, 3)
	b.connect(true)
	fake.WaitFor(t, "a flight", func() bool { return len(p.Published()) == 3 })
	b.reload(t, nil, nil)
	b.expireOld()
	p.Acknowledge()
	fake.WaitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
}

// A topic of a rule that does not change itself.
func TestATopicLearnsOfALoopElsewhere(t *testing.T) {
	// "in" publishes on x/…; whether x/a comes back depends on the rules of send.
	in := []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1-239.1.1.2:5000", "x/{group}")}
	on := func(topic string) []mapping.SendRule {
		return []mapping.SendRule{fake.SendRule(t, "out", topic, "239.1.1.1:5000")}
	}
	receiving(t, rigOptions{Loops: guarded}, on("x/239.1.1.2"), in, func(b *rig, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "a")
		n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "a")
		synctest.Wait()
		r := b.working.Rules[0]
		echoes := func() string {
			return fmt.Sprint(r.Returns("x/239.1.1.1"), r.Returns("x/239.1.1.2"))
		}
		if got := echoes(); got != "false true" {
			t.Fatalf("echoes %s", got)
		}
		b.reload(t, on("x/239.1.1.1"), in)
		if b.working.Rules[0] != r {
			t.Fatal("the rule is another")
		}
		if got := echoes(); got != "true false" {
			t.Errorf("echoes %s after the reload", got)
		}
	})
}
