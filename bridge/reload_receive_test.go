package bridge

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

func every(d time.Duration) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Every = d }
}

func TestTheRulesOfAGroupChangeWhileDatagramsComeIn(t *testing.T) {
	one, two := listenRule(t, "one", "239.1.1.1:5000", "one/{source}"), listenRule(t, "two", "239.1.1.1:5000", "two/{source}")
	got := receiving(t, Options{}, nil, []mapping.ReceiveRule{one}, func(b *Bridge, n *fakeNetwork) {
		hear := func(payload string) {
			n.at("239.1.1.1:5000", "iso0").hear(device, payload)
			synctest.Wait()
		}
		hear("a")
		heard := b.parts().memberships[0].ear.heard
		b.reload(t, nil, []mapping.ReceiveRule{one})
		hear("b")
		if b.parts().memberships[0].ear.heard != heard {
			t.Error("what is known of the senders is forgotten though nothing changed")
		}
		b.reload(t, nil, []mapping.ReceiveRule{one, two})
		hear("c")
		b.reload(t, nil, []mapping.ReceiveRule{two, listenRule(t, "one", "239.1.1.1:5000", "uno")})
		hear("d")
		b.reload(t, nil, []mapping.ReceiveRule{two})
		hear("e")
		if _, receivers, inUse := n.opened(); receivers != 1 || inUse != 1 {
			t.Errorf("%d receivers opened, %d in use; want one for all the time", receivers, inUse)
		}
		b.reload(t, nil, []mapping.ReceiveRule{listenRule(t, "one", "239.1.1.9:5000", "uno")})
		if n.at("239.1.1.1:5000", "iso0") != nil {
			t.Error("the group is still joined")
		}
		if got := b.receive.topics.Load(); got != 0 {
			t.Errorf("%d topics count as remembered", got)
		}
	})
	want := []string{"one/172.17.0.9 a", "one/172.17.0.9 b", "one/172.17.0.9 c", "two/172.17.0.9 c", "two/172.17.0.9 d", "uno d", "two/172.17.0.9 e"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAChangedRulePublishesFirstWhatItHeldBack(t *testing.T) {
	loops := guarded
	loops.Hold = 100 * time.Millisecond
	send, receive := cycle(t)
	for name, c := range map[string]struct {
		before, after []mapping.ReceiveRule
		want          []string
	}{
		"every": {[]mapping.ReceiveRule{listenRule(t, "r", "239.7.7.7:5000", "old", every(time.Hour))},
			[]mapping.ReceiveRule{listenRule(t, "r", "239.7.7.7:5000", "new")}, []string{"old a", "old b", "new c"}},
		"every, gone": {[]mapping.ReceiveRule{listenRule(t, "r", "239.7.7.7:5000", "old", every(time.Hour))},
			[]mapping.ReceiveRule{listenRule(t, "other", "239.7.7.7:5000", "new")}, []string{"old a", "old b", "new c"}},
		"every, elsewhere": {[]mapping.ReceiveRule{listenRule(t, "r", "239.7.7.8:5000", "old", every(time.Hour))},
			[]mapping.ReceiveRule{listenRule(t, "r", "239.7.7.7:5000", "new", every(time.Hour))}, []string{"old a", "old b", "new c"}},
		"held": {receive, []mapping.ReceiveRule{listenRule(t, "in", "239.1.1.1:5000", "new")}, []string{"both a", "both b", "new c"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := receiving(t, Options{Loops: loops}, send, c.before, func(b *Bridge, n *fakeNetwork) {
				hear := func(payload string) {
					n.receiver().hear(device, payload)
					synctest.Wait()
				}
				hear("a")
				hear("b")
				b.reload(t, send, c.after)
				hear("c")
				time.Sleep(time.Second)
				if got := b.room.messages.Load(); got != 3 { // handed over, and not acknowledged
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
	n := &fakeNetwork{}
	n.set(iso0)
	b := newTestBridgeOf(t, n, Options{QueueSize: plenty}, nil, []mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", "t", every(time.Hour))})
	e := b.parts().memberships[0].ear
	e.hear(n.heard("a")) // the first goes at once
	e.hearing.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.reload(t, nil, []mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", "t")})
	}()
	time.Sleep(10 * time.Millisecond) // for it to come to where it waits
	if b.parts().receives[0].Every == 0 {
		t.Error("the rules change within a batch")
	}
	e.remote(n.heard("b")[0].Source).legs[0].outlet.carry([]byte("b"), &arrival{}, &batch{now: time.Now()})
	e.hearing.Unlock()
	<-done
	e.hear(n.heard("c"))
	if diff := cmp.Diff([]string{"t a", "t b", "t c"}, b.receive.publisher.(*fakePublisher).published()); diff != "" {
		t.Error(diff)
	}
}

// committed waits until a queue on disk has n messages that can be read.
func (b *Bridge) committed(t *testing.T, queue string, n int) {
	t.Helper()
	records := make([]spool.Record, n+1)
	waitFor(t, fmt.Sprint(n, " messages safe on disk"), func() bool {
		got, _ := b.options.Spool.On.Queue(queue).Front(records, time.Now(), 0)
		return got == n
	})
}

func TestADetourKeepsItsOrderWhenItsRuleChanges(t *testing.T) {
	r := func(topic string) []mapping.ReceiveRule {
		return []mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", topic)}
	}
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, nil, r("a")...)
	detour := b.parts().detours[0]
	var want []string
	for i, topic := range []string{"a", "b", "c", "d"} {
		b.reload(t, nil, r(topic))
		n.at("239.1.1.1:5000", "iso0").hear(device, fmt.Sprint(i))
		want = append(want, fmt.Sprint(topic, " ", i))
		b.spooled(t, i+1)
	}
	b.committed(t, "r"+receivedSuffix, 4)
	b.connect(true)
	waitFor(t, "a flight", func() bool { return len(p.published()) > 0 })
	b.reload(t, nil, r("e")) // while the broker has not acknowledged them
	n.at("239.1.1.1:5000", "iso0").hear(device, "4", "5")
	want = append(want, "e 4", "e 5")
	if diff := cmp.Diff(want, p.deliver(t, 6)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	b.spooled(t, 0)
	if len(b.parts().detours) != 1 || b.parts().detours[0] != detour {
		t.Error("the rule has another detour")
	}
	if got := b.Status().Receive[0]; got.Published != 6 || got.Drops != nil {
		t.Errorf("%d published, drops %v", got.Published, got.Drops)
	}
	if detour.rule.Load() != b.parts().receives[0] {
		t.Error("the detour takes by the words of a rule that is gone")
	}
}

func TestAReceiveRuleThatComesBackFindsWhatItHadOnDisk(t *testing.T) {
	r := []mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", "t")}
	direct := []mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.QoS = 0 })}
	for name, away := range map[string][]mapping.ReceiveRule{"it was gone": nil, "it was of QoS 0": direct} {
		t.Run(name, func(t *testing.T) {
			b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, nil, r...)
			detour := b.parts().detours[0]
			n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2")
			b.spooled(t, 2)
			b.reload(t, nil, away)
			b.reload(t, nil, away)
			b.connect(true)
			if got := b.orphans(); !slices.Equal(got, []string{"r" + receivedSuffix}) {
				t.Errorf("orphans %q", got)
			}
			time.Sleep(20 * time.Millisecond) // the pump finds nothing
			if got := p.published(); got != nil {
				t.Errorf("published %q", got)
			}
			b.reload(t, nil, r) // and nothing else happens
			if diff := cmp.Diff([]string{"t 1", "t 2"}, p.deliver(t, 2)); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			if b.parts().detours[0] != detour {
				t.Error("there are two that take from one queue")
			}
		})
	}
}

// What the broker is about to acknowledge is not taken for too old, nor forgotten.
func TestWhatFliesWhenItsRuleGoesIsLetLand(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{Spool: Spool{MaxAge: time.Hour}}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2", "3")
	b.committed(t, "r"+receivedSuffix, 3)
	b.connect(true)
	waitFor(t, "a flight", func() bool { return len(p.published()) == 3 })
	b.reload(t, nil, nil)
	b.tidy(time.Now())
	p.acknowledge()
	waitFor(t, "an empty disk", func() bool { return b.options.Spool.On.Len() == 0 })
}

// echoing counts what the loop guard stops of a message that we published ourselves.
func (b *Bridge) echoing(n *fakeNetwork, payload string) uint64 {
	before := b.parts().sends[0].sent.Load()
	n.at("239.1.1.1:5000", "iso0").hear(device, payload)
	synctest.Wait()
	b.send.handle([]session.Message{message("both", payload, 0)})
	return b.parts().sends[0].sent.Load() - before
}

func TestALoopThatAReloadMakesIsGuarded(t *testing.T) {
	send, receive := cycle(t)
	straight := []mapping.SendRule{rule(t, "out", "both", "239.1.1.2:5000")}
	receiving(t, Options{Loops: guarded}, straight, receive, func(b *Bridge, n *fakeNetwork) {
		for i, c := range []struct {
			what string
			send []mapping.SendRule
			sent uint64
		}{
			{"on no cycle", straight, 1},
			{"on a cycle", send, 0},
			{"still on it", send, 0},
			{"off the cycle", straight, 1},
			{"on it again", send, 0},
		} {
			b.reload(t, c.send, receive)
			if got := b.echoing(n, fmt.Sprint(i)); got != c.sent {
				t.Errorf("%s: what we published is sent %d times, want %d", c.what, got, c.sent)
			}
		}
	})
}

// An outlet of a rule that does not change itself.
func TestAnOutletLearnsOfALoopElsewhere(t *testing.T) {
	// "in" publishes on x/…; whether x/a comes back depends on the rules of send.
	in := []mapping.ReceiveRule{listenRule(t, "in", "239.1.1.1-239.1.1.2:5000", "x/{group}")}
	on := func(topic string) []mapping.SendRule {
		return []mapping.SendRule{rule(t, "out", topic, "239.1.1.1:5000")}
	}
	receiving(t, Options{Loops: guarded}, on("x/239.1.1.2"), in, func(b *Bridge, n *fakeNetwork) {
		n.at("239.1.1.1:5000", "iso0").hear(device, "a")
		n.at("239.1.1.2:5000", "iso0").hear(device, "a")
		synctest.Wait()
		r := b.parts().receives[0]
		echoes := func() string {
			return fmt.Sprint(r.outlets["x/239.1.1.1"].echoes.Load(), r.outlets["x/239.1.1.2"].echoes.Load())
		}
		if got := echoes(); got != "false true" {
			t.Fatalf("echoes %s", got)
		}
		b.reload(t, on("x/239.1.1.1"), in)
		if b.parts().receives[0] != r {
			t.Fatal("the rule is another")
		}
		if got := echoes(); got != "true false" {
			t.Errorf("echoes %s after the reload", got)
		}
	})
}
