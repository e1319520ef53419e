package send_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// timed notes when each datagram left.
type timed struct {
	mu   sync.Mutex
	sent []departure
}

type departure struct {
	at   time.Time
	what string // group, blank, payload
}

func (t *timed) inPlaceOf(s *fake.Socket) send.Sender { return timedSocket{s, t} }

type timedSocket struct {
	*fake.Socket
	*timed
}

func (s timedSocket) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(int, error)) (int, error) {
	before := len(s.Took())
	n, err := s.Socket.SendChecked(check, batch, failed)
	s.timed.mu.Lock()
	defer s.timed.mu.Unlock()
	for _, what := range s.Took()[before:] {
		s.sent = append(s.sent, departure{time.Now(), what})
	}
	return n, err
}

// to are the payloads that left for a group, in order, and the least time between two.
func (t *timed) to(group string) (payloads []string, gap time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last time.Time
	gap = time.Hour
	for _, d := range t.sent {
		to, payload, _ := strings.Cut(d.what, " ")
		if to != group {
			continue
		}
		if !last.IsZero() {
			gap = min(gap, d.at.Sub(last))
		}
		last = d.at
		payloads = append(payloads, payload)
	}
	return payloads, gap
}

// timing is a rig with one interface, and when its datagrams leave.
func timing(t *testing.T, o rigOptions, rules ...mapping.SendRule) (*rig, *timed) {
	t.Helper()
	of := new(timed)
	o.InPlaceOf = of.inPlaceOf
	if o.QueueSize == 0 {
		o.QueueSize = fake.Plenty
	}
	return newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, o, rules, nil), of
}

func rate(text string, over mapping.WhenOver) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) {
		if err := r.Rate.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		r.WhenOver = over
	}
}

// numbers are messages of a topic, numbered from one number to another, that included.
func numbers(topic string, from, to int, qos byte) (batch []session.Message) {
	for i := from; i <= to; i++ {
		batch = append(batch, fake.Message(topic, fmt.Sprint(i), qos))
	}
	return batch
}

func (b *rig) settled(what string, t *testing.T) {
	t.Helper()
	synctest.Wait()
	if got := b.Status(); got.Queue.Messages != 0 || got.Queue.Bytes != 0 || got.Spool.Messages != 0 || b.send.PacedHeld() != 0 {
		t.Errorf("%s: %d messages of %d bytes wait, %d on disk, %d held for their time", what, got.Queue.Messages, got.Queue.Bytes, got.Spool.Messages, b.send.PacedHeld())
	}
}

func TestATargetGetsNoMoreThanItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "knx", "k", "239.1.1.1:5000", rate("50/s", mapping.OverWait)))
		batch := numbers("k", 0, 99, 1)
		b.send.Handle(batch[:50])
		acks := b.acks()
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		if got, _ := left.to("239.1.1.1:5000"); len(got) != 50 {
			t.Errorf("%d left within a second, want 50", len(got))
		}
		if got := len(acks.list()); got < 49 || got > 50 || !batch[1].Hold {
			t.Errorf("%d are acknowledged of 50 that have left", got)
		}
		b.send.Handle(batch[50:])
		time.Sleep(5 * time.Second)
		sent, gap := left.to("239.1.1.1:5000")
		if len(sent) != 100 || gap != 20*time.Millisecond {
			t.Errorf("%d left, two of them within %v", len(sent), gap)
		}
		fake.InOrder(t, left.lines(), 99)
		b.settled("in the end", t)
	})
}

func (t *timed) lines() (all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.sent {
		all = append(all, d.what)
	}
	return all
}

// Other targets of the rule, and other rules of the socket, go on at once.
func TestATargetThatRestsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "slow", "k/{id}", "239.1.1.{id}:5000", rate("1/s", mapping.OverWait)),
			fake.SendRule(t, "free", "f", "239.1.1.1:5000"))
		b.send.Handle(numbers("k/1", 0, 9, 1))
		began := time.Now()
		batch := append(numbers("k/2", 0, 0, 1), fake.Message("f", "free", 1))
		b.send.Handle(batch)
		if batch[1].Hold {
			t.Error("the message of the rule without a rate waits")
		}
		synctest.Wait()
		want := []string{"239.1.1.1:5000 0", "239.1.1.1:5000 free", "239.1.1.2:5000 0"}
		got := left.lines()
		if slices.Sort(got); !cmp.Equal(got, want) || time.Since(began) > 0 {
			t.Errorf("sent %q after %v, want %q at once", got, time.Since(began), want)
		}
		time.Sleep(time.Minute)
		b.settled("in the end", t)
	})
}

// A target gets as much from all rules with a rate together, and each has its turn.
func TestRulesShareTheRateOfATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "a", "a", "239.1.1.1:5000", rate("10/s", mapping.OverWait)),
			fake.SendRule(t, "b", "b", "239.1.1.1:5000", rate("10/s", mapping.OverWait)))
		b.send.Handle(numbers("a", 0, 99, 1))
		b.send.Handle(numbers("b", 1000, 1009, 1))
		time.Sleep(3 * time.Second)
		sent, gap := left.to("239.1.1.1:5000")
		last := slices.Index(sent, "1009")
		if gap != 100*time.Millisecond || last < 0 || last > 22 {
			t.Errorf("two leave within %v; the last one of the second rule is number %d: %q", gap, last, sent)
		}
		time.Sleep(10 * time.Second)
		b.settled("in the end", t)
	})
}

func TestOfWhatComesFasterTheLatestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", rate("10/s", mapping.OverLatest)))
		for i := range 1000 { // 5,000 a second, of two topics; the second one rarely
			b.send.Handle([]session.Message{fake.Message("t/often", fmt.Sprint("o", 1000+i), 1)})
			if i%100 == 50 {
				b.send.Handle([]session.Message{fake.Message("t/rare", fmt.Sprint("r", i), 1)})
			}
			time.Sleep(200 * time.Microsecond)
		}
		time.Sleep(time.Second)
		sent, gap := left.to("239.1.1.1:5000")
		if gap != 100*time.Millisecond || !slices.Contains(sent, "o1999") || !slices.Contains(sent, "r950") || !slices.IsSortedFunc(slices.DeleteFunc(slices.Clone(sent), func(s string) bool { return s[0] == 'r' }), strings.Compare) {
			t.Errorf("two leave within %v: %q", gap, sent)
		}
		got := b.Status().Rules[0]
		if got.Drops != nil || got.Filtered["superseded"]+got.Sent != 1010 || got.Sent < 4 {
			t.Errorf("%d sent, drops %v, filtered %v of 1010", got.Sent, got.Drops, got.Filtered)
		}
		b.settled("in the end", t)
	})
}

func TestWhatIsSupersededIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/s", mapping.OverLatest)))
		b.send.Handle(numbers("t", 0, 0, 1))
		synctest.Wait()
		b.send.Handle(numbers("t", 1, 1, 1))
		acks := b.acks()
		b.send.Handle(numbers("t", 2, 2, 1))
		if got := acks.list(); !cmp.Equal(got, []string{"1"}) {
			t.Errorf("acknowledged are %q, want the one that another has replaced", got)
		}
		time.Sleep(2 * time.Second)
		fake.InOrder(t, slices.DeleteFunc(left.lines(), func(s string) bool { return strings.HasSuffix(s, "2") }), 0)
		if got, _ := left.to("239.1.1.1:5000"); !cmp.Equal(got, []string{"0", "2"}) {
			t.Errorf("sent %q", got)
		}
		b.settled("in the end", t)
	})
}

// What takes the place of another has its own expiry, and its own place for the answer.
func TestWhatSupersedesHasNothingOfWhatItReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/m", mapping.OverLatest)))
		b.send.Handle(numbers("t", 0, 0, 1))
		synctest.Wait()
		b.send.Handle([]session.Message{goodFor(1, "t", "1")})
		b.send.Handle([]session.Message{goodFor(600, "t", "2")})
		time.Sleep(2 * time.Minute)
		b.send.Handle([]session.Message{goodFor(600, "t", "3")})
		synctest.Wait()
		b.send.Handle([]session.Message{goodFor(600, "t", "4")})
		b.send.Handle([]session.Message{goodFor(1, "t", "5")})
		time.Sleep(2 * time.Minute)
		if got, _ := left.to("239.1.1.1:5000"); !cmp.Equal(got, []string{"0", "2", "3"}) {
			t.Errorf("sent %q, drops %v", got, b.Status().Rules[0].Drops)
		}
		b.settled("in the end", t)
	})
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, fake.SendRule(t, "ask", "q/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.{id}:1010"), asking(t), rate("1/s", mapping.OverLatest)))
		b.send.Handle([]session.Message{ask(1, "x")})
		synctest.Wait()
		b.network.LastSocket().Say("172.17.9.1:1010", "A")
		synctest.Wait()
		b.send.Handle([]session.Message{replyTo(ask(1, "y"), "back/long", make([]byte, 1000))})
		b.send.Handle([]session.Message{replyTo(ask(1, "z"), "back/2", []byte("z"))})
		time.Sleep(time.Second)
		synctest.Wait()
		b.network.LastSocket().Say("172.17.9.1:1010", "B")
		synctest.Wait()
		if got := b.said.Published(); !cmp.Equal(got, []string{"answer/1 A", `back/long {"reason":"superseded","topic":"q/1","tries":0}`, "back/2 B"}) {
			t.Errorf("published %q", got)
		}
		b.said.Acknowledge()
		b.settled("in the end", t)
	})
}

func TestWhatComesFasterIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("50/s", mapping.OverDrop)))
		held := 0
		for i := range 500 {
			batch := numbers("t", 1000+i, 1000+i, 1)
			b.send.Handle(batch)
			if batch[0].Hold {
				held++
			}
			time.Sleep(time.Millisecond)
		}
		sent, gap := left.to("239.1.1.1:5000")
		got := b.Status().Rules[0]
		if gap < 20*time.Millisecond || len(sent) != 25 || got.Drops["rate"] != 475 || held > 25 { // fewer: it had left when Handle returned
			t.Errorf("two left within %v, %d in all, drops %v; %d were held", gap, len(sent), got.Drops, held)
		}
		b.settled("in the end", t)
	})
}

// What has waited for its time too long is dropped.
func TestWhatWaitsForItsTimeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/s", mapping.OverWait), fake.MaxAge(2500*time.Millisecond)))
		b.send.Handle(numbers("t", 0, 9, 1))
		time.Sleep(time.Minute)
		fake.InOrder(t, left.lines(), 2)
		if got := b.Status().Rules[0].Drops["expired"]; got != 7 {
			t.Errorf("%d expired, want 7", got)
		}
		b.settled("in the end", t)
	})
}

// A backlog holds no acknowledgements where there is a disk; it leaves in order and at its
// rate, whatever a reload changes.
func TestWhatWaitsForItsTimeForLongIsOnDisk(t *testing.T) {
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	rule := func(text string) []mapping.SendRule {
		return []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate(text, mapping.OverWait))}
	}
	b, left := timing(t, rigOptions{Spool: rigSpool{On: s}}, rule("1/h")...)
	b.send.Handle(numbers("t", 0, 49, 1))
	fake.WaitFor(t, "the disk", func() bool { return b.Status().Spool.Messages == 49 && b.send.Storing() == 0 })
	b.send.Handle(numbers("t", 50, 99, 1))
	fake.WaitFor(t, "the disk", func() bool {
		return b.Status().Spool.Messages == 99 && b.send.Storing() == 0 && b.send.PacedHeld() == 0
	})
	if got := left.lines(); len(got) != 1 {
		t.Errorf("sent %q before their time", got)
	}
	b.reload(t, rule("500/s"), nil)
	fake.WaitFor(t, "all", func() bool { return len(left.lines()) == 100 })
	fake.InOrder(t, left.lines(), 99)
	if _, gap := left.to("239.1.1.1:5000"); gap < 2*time.Millisecond {
		t.Errorf("two left within %v", gap)
	}
	fake.WaitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
}

// Of a rule that drops what comes faster no backlog grows on disk either, where the one message of
// each target that may wait has gone there.
func TestWhatComesFasterIsDroppedWhileTheDiskHasSome(t *testing.T) {
	const targets, more = 2 * spill.LowWater, 100
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	b, _ := timing(t, rigOptions{Spool: rigSpool{On: s}},
		fake.SendRule(t, "r", "t/{id}", "239.1.{id>>8}.{id&255}:5000", rate("1/h", mapping.OverDrop), repeat(2, 20*time.Millisecond)))
	for range 2 { // the first leaves, the second waits
		for id := range targets {
			b.send.Handle(numbers(fmt.Sprintf("t/%d", id), 0, 0, 1))
		}
		fake.WaitFor(t, "what may leave", func() bool { return b.send.PacedHeld() <= send.MaxPacedHeld && b.send.Storing() == 0 })
	}
	before := b.Status()
	b.send.Handle(numbers("t/1", 1, more, 1))
	fake.WaitFor(t, "the disk", func() bool { return b.send.Storing() == 0 })
	got := b.Status()
	if got.Spool.Messages != before.Spool.Messages || got.Rules[0].Drops["rate"] != before.Rules[0].Drops["rate"]+more {
		t.Errorf("%d messages are on disk, %d more than before; drops %v", got.Spool.Messages, got.Spool.Messages-before.Spool.Messages, got.Rules[0].Drops)
	}
}

// Without a disk it stays where it is, over a reload too, and then leaves as the rule says now.
func TestAReloadKeepsWhatWaitsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := func(text string) mapping.SendRule {
			return fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate(text, mapping.OverWait))
		}
		b, left := timing(t, rigOptions{}, rule("1/s"))
		b.send.Handle(numbers("t", 0, 29, 1))
		time.Sleep(2500 * time.Millisecond)
		b.reload(t, []mapping.SendRule{rule("10/s")}, nil)
		b.send.Handle(numbers("t", 30, 39, 1))
		time.Sleep(950 * time.Millisecond)
		if got, gap := left.to("239.1.1.1:5000"); len(got) != 13 || gap != 100*time.Millisecond {
			t.Errorf("%d left, two within %v", len(got), gap)
		}
		b.reload(t, []mapping.SendRule{rule("")}, nil)
		synctest.Wait()
		fake.InOrder(t, left.lines(), 39)
		b.settled("in the end", t)
	})
}

// The source goes and comes back while something waits for its time.
func TestWhatWaitsForItsTimeOutlivesItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/s", mapping.OverWait)))
		b.send.Handle(numbers("t", 0, 4, 1))
		synctest.Wait()
		b.network.Set()
		b.reconcile(t.Context())
		time.Sleep(time.Minute)
		if got := left.lines(); len(got) != 1 {
			t.Errorf("sent %q without a source", got)
		}
		b.network.Set(fake.Iso0)
		b.reconcile(t.Context())
		time.Sleep(time.Minute)
		fake.InOrder(t, left.lines(), 4)
		if _, gap := left.to("239.1.1.1:5000"); gap < time.Second {
			t.Errorf("two left within %v", gap)
		}
		b.settled("in the end", t)
	})
}

// The end does not wait for what has to wait for its time.
func TestTheEndWaitsForNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/h", mapping.OverWait)))
		b.send.Handle(numbers("t", 0, 9, 0))
		synctest.Wait()
		began := time.Now()
		if !b.send.Drained(t.Context()) || time.Since(began) > 0 {
			t.Errorf("it waits for %v", time.Since(began))
		}
		b.spillAll(t)
		if got := b.Status().Rules[0].Drops["stopped"]; got != 9 {
			t.Errorf("%d of QoS 0 are dropped at the end, want 9", got)
		}
		b.settled("in the end", t)
	})
}

// Targets that topics make up are bounded, and forgotten when they may have something again.
func TestTheTargetsThatRestAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "r", "t/{a}/{b}/{c}", "239.{a}.{b}.{c}:5000", rate("1/m", mapping.OverWait)))
		flood := func() {
			for a := range 3 {
				for i := range 256 {
					var batch []session.Message
					for j := range 100 {
						batch = append(batch, fake.Message(fmt.Sprintf("t/%d/%d/%d", a, i, j), "x", 0))
					}
					b.send.Handle(batch)
					synctest.Wait()
				}
			}
		}
		flood()
		got := b.Status().Rules[0]
		if got.Sent != send.MaxPaced || got.Drops["rate"] != 3*256*100-send.MaxPaced || b.send.PacedTargets() != send.MaxPaced {
			t.Errorf("%d were sent, drops %v; %d are known", got.Sent, got.Drops, b.send.PacedTargets())
		}
		time.Sleep(2 * time.Minute)
		b.send.Handle([]session.Message{fake.Message("t/9/9/9", "x", 0)})
		synctest.Wait()
		if got := b.Status().Rules[0].Sent; got != send.MaxPaced+1 || b.send.PacedTargets() != 1 {
			t.Errorf("%d were sent, and %d are known once all have rested", got, b.send.PacedTargets())
		}
	})
}

// What comes from the disk is bound by as many targets as what comes fresh, and waits for a place.
func TestTheTargetsThatRestAreBoundedForWhatIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fake.OpenSpool(t, t.TempDir(), 16<<20)
		network := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRigOf(t, network, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}},
			[]mapping.SendRule{fake.SendRule(t, "r", "t/{a}/{b}/{c}", "239.{a}.{b}.{c}:5000", rate("1/m", mapping.OverWait))}, nil)
		for i := range 256 {
			var batch []session.Message
			for j := range 256 {
				if 256*i+j < send.MaxPaced-2 {
					batch = append(batch, fake.Message(fmt.Sprintf("t/1/%d/%d", i, j), "x", 0))
				}
			}
			b.send.Handle(batch)
			synctest.Wait()
		}
		network.Set()
		b.reconcile(t.Context())
		for i := range 5 { // each goes to the disk, and leaves no target in memory
			b.send.Handle([]session.Message{fake.Message(fmt.Sprintf("t/2/0/%d", i), "x", 1)})
			time.Sleep(2 * time.Second)
			b.spilled(t)
		}
		network.Set(fake.Iso0)
		b.reconcile(t.Context())
		time.Sleep(10 * time.Second)
		if got := b.Status(); got.Rules[0].Sent != send.MaxPaced || got.Spool.Messages != 3 || b.send.PacedTargets() != send.MaxPaced || got.Rules[0].Drops != nil {
			t.Errorf("%d were sent, %d wait on disk, %d targets are known, drops %v", got.Rules[0].Sent, got.Spool.Messages, b.send.PacedTargets(), got.Rules[0].Drops)
		}
		time.Sleep(time.Minute)
		if got := b.Status(); got.Rules[0].Sent != send.MaxPaced+3 || got.Rules[0].Drops != nil {
			t.Errorf("%d were sent once all have rested, drops %v", got.Rules[0].Sent, got.Rules[0].Drops)
		}
		b.settled("in the end", t)
	})
}

// Of many rules that send to one target each has its turn, however many they are.
func TestOfRulesThatShareATargetNoneIsLeftOut(t *testing.T) {
	for _, n := range []int{7, 8, 13} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { shareATarget(t, n) }) })
	}
}

func shareATarget(t *testing.T, n int) {
	var rules []mapping.SendRule
	for i := range n {
		rules = append(rules, fake.SendRule(t, fmt.Sprint("r", i), fmt.Sprint(i), "239.1.1.1:5000", rate("10/s", mapping.OverWait)))
	}
	b, left := timing(t, rigOptions{}, rules...)
	for i := range n {
		b.send.Handle(numbers(fmt.Sprint(i), 100*i, 100*i+20, 1))
	}
	time.Sleep(time.Duration(n)*time.Second - 50*time.Millisecond)
	for i, r := range b.Status().Rules {
		if r.Sent != 10 {
			t.Errorf("of rule %d %d have left of the first %d, want 10", i, r.Sent, 10*n)
		}
	}
	if got := len(left.lines()); got != 10*n {
		t.Errorf("%d have left, want %d", got, 10*n)
	}
}

// What is on disk of one rule does not keep another's from a target that both send to.
func TestWhatIsOnDiskLetsOthersGoToItsTarget(t *testing.T) {
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	b, _ := timing(t, rigOptions{Spool: rigSpool{On: s}}, fake.SendRule(t, "disk", "d", "239.1.1.1:5000", rate("10/s", mapping.OverWait)),
		fake.SendRule(t, "memory", "m", "239.1.1.1:5000", rate("10/s", mapping.OverWait), fake.OnDown(mapping.OnDownDrop)))
	b.send.Handle(numbers("d", 0, 299, 1))
	fake.WaitFor(t, "the disk", func() bool { return b.Status().Spool.Messages > 0 && b.send.PacedHeld() == 0 })
	b.send.Handle(numbers("m", 0, 0, 0))
	fake.WaitFor(t, "the other rule's", func() bool { return b.Status().Rules[1].Sent == 1 })
	if b.Status().Spool.Messages == 0 {
		t.Error("it left after all that was on disk")
	}
}
