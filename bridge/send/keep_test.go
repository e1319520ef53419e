package send_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func refresh(d time.Duration) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.Refresh = d }
}

func repeat(times int, every time.Duration) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.Repeat, _ = mapping.NewRepeat(times, every) }
}

func counter(text string) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) {
		if err := r.Counter.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
	}
}

func dropEmpty(r *mapping.SendRule) { r.DropEmpty = true }

// since are the payloads that left from a moment on.
func (t *timed) since(at time.Time) (payloads []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.sent {
		if !d.at.Before(at) {
			payloads = append(payloads, strings.SplitN(d.what, " ", 2)[1])
		}
	}
	return payloads
}

func TestTheLastDatagramOfATopicIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", refresh(time.Second)))
		b.send.Handle([]session.Message{fake.Message("t/a", "old", 1), fake.Message("t/a", "new", 1)})
		time.Sleep(10*time.Second + 500*time.Millisecond)
		got := left.since(time.Time{})
		if len(got) < 12 || len(got) > 13 || got[0] != "old" || slices.ContainsFunc(got[1:], func(s string) bool { return s != "new" }) {
			t.Errorf("%q", got)
		}
		left.mu.Lock()
		for i := 2; i < len(left.sent); i++ {
			if gap := left.sent[i].at.Sub(left.sent[i-1].at); gap < 500*time.Millisecond || gap > time.Second {
				t.Errorf("%v between two", gap)
			}
		}
		left.mu.Unlock()
		s := b.Status().Rules[0]
		if s.Sent != uint64(len(got)) || s.Again != uint64(len(got)-2) || s.Kept != 1 {
			t.Errorf("%d sent, %d again, %d topics are kept", s.Sent, s.Again, s.Kept)
		}
		b.settled("in the end", t)
	})
}

// Many that came together do not leave together.
func TestRefreshesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", refresh(10*time.Second)))
		var batch []session.Message
		for i := range 1000 {
			batch = append(batch, fake.Message(fmt.Sprint("t/", i), fmt.Sprint(i), 1))
		}
		b.send.Handle(batch)
		time.Sleep(time.Millisecond)
		from := time.Now()
		time.Sleep(31 * time.Second)
		most, n, at := 0, 0, time.Time{}
		times := make(map[string]int)
		left.mu.Lock()
		defer left.mu.Unlock()
		for _, d := range left.sent {
			if d.at.Before(from) {
				continue
			}
			times[d.what]++
			if !d.at.Equal(at) {
				n, at = 0, d.at
			}
			n++
			most = max(most, n)
		}
		for what, n := range times {
			if n < 3 || n > 4 {
				t.Errorf("%s was sent %d times in 31 s", what, n)
			}
		}
		if len(times) != 1000 || most > 10 {
			t.Errorf("%d topics; %d of 1,000 left at once", len(times), most)
		}
	})
}

func TestWhatEndsARefresh(t *testing.T) {
	for name, c := range map[string]struct {
		change []func(*mapping.SendRule)
		then   []session.Message
		want   []string // what leaves after 5 s
	}{
		"an empty message":                  {nil, []session.Message{fake.Message("t", "", 1)}, []string{""}},
		"one that is left out":              {[]func(*mapping.SendRule){dropEmpty}, []session.Message{fake.Message("t", "", 1)}, nil},
		"one that is left out, behind":      {[]func(*mapping.SendRule){dropEmpty}, []session.Message{fake.Message("t", "x", 1), fake.Message("t", "", 1)}, []string{"x"}},
		"max_age":                           {[]func(*mapping.SendRule){fake.MaxAge(4 * time.Second), func(r *mapping.SendRule) { r.AgeGiven = true }}, nil, nil},
		"an empty one, with a rate, behind": {[]func(*mapping.SendRule){dropEmpty, rate("10/m", mapping.OverWait)}, []session.Message{fake.Message("t", "x", 1), fake.Message("t", "", 1)}, []string{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", append(c.change, refresh(time.Second))...))
				b.send.Handle(numbers("t", 1, 1, 1))
				time.Sleep(4900 * time.Millisecond)
				from := time.Now()
				b.send.Handle(c.then)
				time.Sleep(5 * time.Minute)
				if diff := cmp.Diff(c.want, left.since(from)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if got := b.Status().Rules[0].Kept; got != 0 {
					t.Errorf("%d topics are kept", got)
				}
			})
		})
	}
}

// max_age of the spool ends nothing.
func TestARefreshGoesOnForAsLongAsTheRuleSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(time.Minute), refresh(10*time.Second)))
		b.send.Handle(numbers("t", 1, 1, 1))
		time.Sleep(time.Hour)
		from := time.Now()
		time.Sleep(11 * time.Second)
		if got := left.since(from); len(got) == 0 {
			t.Error("it has ended")
		}
	})
}

func TestCopiesAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", repeat(3, 20*time.Millisecond)))
		batch := []session.Message{fake.Message("t/a", "a", 1), fake.Message("t/b", "b", 1)}
		b.send.Handle(batch)
		if batch[0].Hold {
			t.Error("it is held for its copies")
		}
		time.Sleep(30 * time.Millisecond)
		b.send.Handle([]session.Message{fake.Message("t/a", "A", 1)})
		time.Sleep(time.Second)
		got := left.since(time.Time{})
		ofA := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == "b" })
		if diff := cmp.Diff([]string{"a", "a", "A", "A", "A"}, ofA); diff != "" || len(got) != 8 {
			t.Errorf("sent %q (-want +got):\n%s", got, diff)
		}
		if got := b.Status().Rules[0]; got.Kept != 0 || got.Again != 5 || got.Sent != 8 {
			t.Errorf("%d are kept, %d of %d were sent again", got.Kept, got.Again, got.Sent)
		}
	})
}

// A newer message ends the copies though it cannot leave yet; the rate holds for copies too.
func TestCopiesKeepToTheRateAndEndWithANewerMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", repeat(4, 20*time.Millisecond), rate("10/s", mapping.OverWait)))
		b.send.Handle(numbers("t", 1, 1, 1))
		time.Sleep(150 * time.Millisecond)
		b.send.Handle(numbers("t", 2, 3, 1))
		time.Sleep(5 * time.Second)
		sent, gap := left.to("239.1.1.1:5000")
		if diff := cmp.Diff([]string{"1", "1", "2", "3", "3", "3", "3"}, sent); diff != "" || gap < 100*time.Millisecond {
			t.Errorf("two within %v (-want +got):\n%s", gap, diff)
		}
		b.settled("in the end", t)
	})
}

// Neither is anything queued while the source is away, nor does all leave at once when it is back.
func TestARefreshOutlivesItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", refresh(time.Second), repeat(2, 300*time.Millisecond)))
		b.send.Handle([]session.Message{fake.Message("t/a", "a", 1), fake.Message("t/b", "b", 1)})
		b.network.Set()
		b.reconcile(t.Context())
		time.Sleep(time.Hour)
		if got := left.lines(); len(got) != 2 || b.Status().Queue.Messages != 0 {
			t.Errorf("sent %q, %d wait", got, b.Status().Queue.Messages)
		}
		from := time.Now()
		b.network.Set(fake.Iso0)
		b.reconcile(t.Context())
		time.Sleep(999 * time.Millisecond)
		if got := left.since(from); len(got) < 2 || len(got) > 4 || !slices.Contains(got, "a") || !slices.Contains(got, "b") {
			t.Errorf("sent %q in the second after it was back", got)
		}
	})
}

func TestARefreshGoesOnOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := func(group string, change ...func(*mapping.SendRule)) []mapping.SendRule {
			return []mapping.SendRule{fake.SendRule(t, "r", "t", group, change...)}
		}
		b, left := timing(t, rigOptions{}, rule("239.1.1.1:5000", refresh(time.Minute))...)
		b.send.Handle(numbers("t", 1, 1, 1))
		time.Sleep(time.Second)
		b.reload(t, rule("239.1.1.1:5000", refresh(time.Second)), nil)
		from := time.Now()
		time.Sleep(10 * time.Second)
		if got := left.since(from); len(got) < 9 || len(got) > 12 {
			t.Errorf("%q in 10 s", got)
		}
		b.reload(t, rule("239.1.1.2:5000", refresh(time.Second)), nil)
		from = time.Now()
		time.Sleep(10 * time.Second)
		if got, _ := left.to("239.1.1.2:5000"); len(got) < 9 || len(got) != len(left.since(from)) {
			t.Errorf("%q to the other group, of %d", got, len(left.since(from)))
		}
		b.reload(t, rule("239.1.1.2:5000"), nil)
		from = time.Now()
		time.Sleep(time.Minute)
		if got := left.since(from); got != nil {
			t.Errorf("%q left by a rule without refresh", got)
		}
	})
}

// Each configuration is read anew: what compares its values must not compare where they are.
func TestARefreshGoesOnOverAReloadWithEqualAffixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := func(change ...func(*mapping.SendRule)) []mapping.SendRule {
			return []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", append(change, refresh(time.Second))...)}
		}
		b, left := timing(t, rigOptions{}, rule(affixes)...)
		b.send.Handle([]session.Message{fake.Message("t", "1", 1)})
		time.Sleep(time.Second)
		b.reload(t, rule(affixes), nil)
		from := time.Now()
		time.Sleep(10 * time.Second)
		if got := left.since(from); len(got) < 9 || got[0] != "<1>\n" {
			t.Errorf("%q in 10 s", got)
		}
		b.reload(t, rule(), nil)
		from = time.Now()
		time.Sleep(10 * time.Second)
		if got := left.since(from); got != nil {
			t.Errorf("%q left by a rule that makes other datagrams", got)
		}
	})
}

// Copies and refreshes count up too, and what waits has no number.
func TestEachDatagramOfATargetHasTheNextNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", counter("u8@1"), repeat(2, 20*time.Millisecond), refresh(time.Second)),
			fake.SendRule(t, "other", "t/#", "239.1.1.9:5000"))
		batch := []session.Message{fake.Message("t/1", "a-z", 1), fake.Message("t/2", "A-Z", 1), fake.Message("t/1", "b-y", 1), fake.Message("t/1", "x", 1)}
		b.send.Handle(batch)
		if got := string(batch[0].Payload); got != "a-z" {
			t.Errorf("the message is %q now", got)
		}
		b.network.LastSocket().Allow(0, nil)
		b.send.Handle([]session.Message{fake.Message("t/2", "B-Y", 1)})
		b.network.LastSocket().Allow(1000, nil)
		time.Sleep(500 * time.Millisecond)
		first, _ := left.to("239.1.1.1:5000")
		second, _ := left.to("239.1.1.2:5000")
		if diff := cmp.Diff([]string{"a\x00z", "b\x01y", "b\x02y"}, first); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"A\x00Z", "B\x01Y", "B\x02Y"}, second); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got, _ := left.to("239.1.1.9:5000"); !slices.Contains(got, "a-z") || !slices.Contains(got, "x") {
			t.Errorf("the other rule sent %q", got)
		}
		time.Sleep(300 * time.Second)
		first, _ = left.to("239.1.1.1:5000")
		for i, s := range first {
			if s[1] != byte(i) {
				t.Fatalf("number %d is %d", i, s[1])
			}
		}
		if got := b.Status().Rules[0].Drops; len(first) < 300 || got["bad_payload"] != 1 {
			t.Errorf("%d left, drops %v", len(first), got)
		}
	})
}

// What is kept has its bound, and each rule its part.
func TestWhatIsSentAgainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "flood", "f/+", "239.1.1.1:5000", refresh(time.Hour)),
			fake.SendRule(t, "quiet", "q/+", "239.1.1.1:5000", refresh(time.Hour)))
		large := strings.Repeat("x", 60_000)
		for i := range 1000 {
			b.send.Handle([]session.Message{fake.Message(fmt.Sprint("f/", i), large, 1)})
		}
		for i := range 100 {
			b.send.Handle([]session.Message{fake.Message(fmt.Sprint("q/", i), large[:30_000], 1)})
		}
		got := b.Status().Rules
		if got[0].Sent != 1000 || got[0].Kept == 0 || got[0].Kept*60_000 > send.MaxKeptBytes || uint64(got[0].Kept)+got[0].Drops["refresh_full"] != 1000 {
			t.Errorf("%d sent, of which %d are kept, drops %v", got[0].Sent, got[0].Kept, got[0].Drops)
		}
		if got[1].Kept != 100 || got[1].Drops != nil {
			t.Errorf("%d of the other rule's are kept, drops %v", got[1].Kept, got[1].Drops)
		}
	})
}

// What the kernel refuses is tried again, and counted if it never can leave.
func TestARefreshThatTheKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t/+", "239.1.1.1:5000", refresh(time.Second)))
		b.send.Handle([]session.Message{fake.Message("t/a", "a", 1), fake.Message("t/b", "b", 1)})
		s := b.network.LastSocket()
		s.Allow(0, nil)
		b.watching(10 * time.Second)
		if got := b.Status().Rules[0]; len(left.lines()) != 2 || got.State != "up" {
			t.Errorf("sent %q, %s", left.lines(), got.State)
		}
		s.Allow(1000, nil)
		time.Sleep(1500 * time.Millisecond)
		if got := left.lines(); !slices.Contains(got[2:], "239.1.1.1:5000 a") || !slices.Contains(got[2:], "239.1.1.1:5000 b") {
			t.Errorf("sent %q", got)
		}
		s.Mu.Lock()
		s.Reject = map[string]error{"a": errors.Join(syscall.EPERM)}
		s.Mu.Unlock()
		time.Sleep(2 * time.Second)
		if got := b.Status().Rules[0]; got.Drops["firewall"] == 0 || got.Kept != 2 {
			t.Errorf("drops %v, %d are kept", got.Drops, got.Kept)
		}
	})
}

func TestTheCountersThatAreKnownAreBounded(t *testing.T) {
	b := newRig(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "r", "t/{a}/{b}/{c}", "239.{a}.{b}.{c}:5000", counter("u8@0")))
	for a := range 2 {
		for i := range 256 {
			var batch []session.Message
			for j := range 200 {
				batch = append(batch, fake.Message(fmt.Sprintf("t/%d/%d/%d", a, i, j), "x", 0))
			}
			b.send.Handle(batch)
		}
	}
	if got := b.send.Counted(); got != send.MaxCounted {
		t.Errorf("%d are known, want %d", got, send.MaxCounted)
	}
}

// What is sent again leaves room for what is new: a rule with rate and when_over: drop loses
// nothing that comes slower than the rate.
func TestWhatIsSentAgainTakesNoPlaceOfWhatIsNew(t *testing.T) {
	for name, change := range map[string]func(*mapping.SendRule){"refresh": refresh(500 * time.Millisecond), "repeat": repeat(5, 20*time.Millisecond)} {
		synctest.Test(t, func(t *testing.T) {
			b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("2/s", mapping.OverDrop), change))
			for i := range 9 {
				b.send.Handle(numbers("t", i, i, 1))
				time.Sleep(730 * time.Millisecond)
			}
			time.Sleep(time.Second)
			got := slices.Compact(left.since(time.Time{}))
			if s := b.Status().Rules[0]; s.Drops != nil || !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8"}) {
				t.Errorf("%s: %q, drops %v", name, got, s.Drops)
			}
			b.settled("in the end", t)
		})
	}
}

// What takes the place of a message that waits came after what has cleared the topic meanwhile.
func TestATopicThatWasClearedIsRefreshedByWhatReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", rate("1/s", mapping.OverLatest), refresh(200*time.Millisecond), dropEmpty))
		for _, payload := range []string{"A", "B", "", "C"} {
			b.send.Handle([]session.Message{fake.Message("t", payload, 1)})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		got := left.since(time.Time{})
		if once := slices.Compact(slices.Clone(got)); len(got) < 5 || !slices.Equal(once, []string{"A", "C"}) {
			t.Errorf("%q", got)
		}
	})
}

// A refresh ends with a configuration whose condition it does not satisfy, as far as is known.
func TestARefreshEndsWhereWhenIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", refresh(time.Second)))
		b.send.Handle([]session.Message{fake.Message("t", "old", 1)})
		time.Sleep(time.Second)
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", refresh(time.Second), func(r *mapping.SendRule) {
			if err := r.When.UnmarshalText([]byte(`payload != "old"`)); err != nil {
				t.Error(err)
			}
		})}, nil)
		at := time.Now()
		time.Sleep(5 * time.Second)
		if got := left.since(at); got != nil {
			t.Errorf("%q", got)
		}
	})
}

// What is new goes first, also where it waits on disk: copies take the turns that it leaves.
func TestWhatIsSentAgainTakesNoTurnOfWhatIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := new(timed)
		n := &fake.Network{}
		s := fake.OpenSpool(t, t.TempDir(), 16<<20)
		b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: of.inPlaceOf, Spool: rigSpool{On: s}}, []mapping.SendRule{
			fake.SendRule(t, "r", "t/{id}", "239.1.1.1:5000", repeat(3, 20*time.Millisecond), rate("10/s", mapping.OverWait))}, nil)
		for i := range 10 {
			b.send.Handle([]session.Message{fake.Message(fmt.Sprint("t/", i), fmt.Sprint(i), 1)})
		}
		b.spilled(t)
		n.Set(fake.Iso0)
		from := time.Now()
		b.reconcile(t.Context())
		time.Sleep(950 * time.Millisecond)
		if got := of.since(from); !slices.Equal(got, strings.Fields("0 1 2 3 4 5 6 7 8 9")) {
			t.Errorf("%q left in the first second", got)
		}
		time.Sleep(5 * time.Second)
		if got := of.since(from); len(got) != 30 {
			t.Errorf("%d left in all, want each three times: %q", len(got), got)
		}
	})
}

// A host that is off, with something that waits for it, costs no more than a look now and then.
func TestWhatIsSentAgainToAHostThatIsOffIsLookedAtRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink("172.17.1.7")
		b := hostRig(t, l, rigOptions{}, fake.SendRule(t, "lamp", "lamp/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.1.7:5000"), refresh(time.Second), fake.OnDown(mapping.OnDownLatest)))
		b.send.Handle([]session.Message{fake.Message("lamp/1", "on", 0)})
		time.Sleep(3 * time.Second)
		l.power("172.17.1.7", false)
		for i := range 40 {
			b.send.Handle([]session.Message{fake.Message("lamp/2", fmt.Sprint(i), 0)})
			time.Sleep(500 * time.Millisecond)
		}
		if r := b.Status().Rules[0]; r.Down != 1 || r.WaitingMemory == 0 {
			t.Fatalf("%d hosts are down, %d messages wait", r.Down, r.WaitingMemory)
		}
		longest := time.Duration(0)
		for range 20 {
			longest = max(longest, b.send.NextKept())
			time.Sleep(7 * time.Millisecond)
		}
		if longest < 50*time.Millisecond {
			t.Errorf("it is looked at again after %v", longest)
		}
	})
}
