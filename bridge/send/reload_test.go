package send_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// sender is the send side of a process, on a network that a test writes the script of.
type sender struct {
	*send.Path
	network *fake.Network
	spool   *spool.Spool
	budget  *account.MemBudget
	working *send.Generation
	drains  sync.WaitGroup
	ctx     context.Context
	end     func()
}

// start begins a process with a spool in a folder, none if that is "".
func start(t *testing.T, dir string, rules ...mapping.SendRule) *sender {
	t.Helper()
	return startWith(t, fake.Plenty, dir, rules...)
}

// startWith is start with so much memory for what waits.
func startWith(t *testing.T, queue int64, dir string, rules ...mapping.SendRule) *sender {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n := &fake.Network{}
	s := &sender{network: n, budget: account.NewMemBudget(queue), working: new(send.Generation), ctx: ctx}
	if dir != "" {
		var err error
		if s.spool, err = spool.Open(spool.Options{Dir: dir, MaxSize: 16 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	s.Path = send.New(send.Options{
		Log: slog.New(slog.DiscardHandler), LastSent: lastsent.Open(lastsent.Options{}), Budget: s.budget, Own: new(loopguard.OwnAddresses),
		Spool: spill.Share(s.spool), Repeats: true, LookNow: func() {}, Settled: new(account.Signal),
		Open: func(src multicast.Source) (send.Sender, error) { return n.Open(src) },
	})
	s.end = sync.OnceFunc(func() {
		s.Stop(context.Background())
		stop()
		s.drains.Wait()
		if s.spool != nil {
			s.spool.Close()
		}
	})
	t.Cleanup(s.end)
	s.reload(t, rules...)
	return s
}

func (s *sender) reload(t *testing.T, rules ...mapping.SendRule) {
	t.Helper()
	table, err := mapping.Compile(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, next := s.working, s.Build(table, s.working, nil)
	next.Attach(s.ctx, &s.drains)
	s.budget.Divide(next.Sockets(), 0)
	s.Activate(next, before)
	before.RetireOld(next)
	s.working = next
	s.look()
}

func (s *sender) look() {
	interfaces, _ := s.network.Interfaces()
	s.Reconcile(s.ctx, interfaces)
}

// numbered hands over messages of a topic with the numbers from first to last, in one piece.
func (s *sender) numbered(topic string, first, last int) {
	var batch []session.Message
	for i := first; i <= last; i++ {
		batch = append(batch, fake.Message(topic, fmt.Sprint(i), 1))
	}
	s.Handle(batch)
}

// up lets the interfaces be there, and waits until n datagrams have left, and nothing waits.
func (s *sender) up(t *testing.T, n int) []string {
	t.Helper()
	s.network.Set(fake.Iso0, fake.Priv0)
	s.look()
	sent := func() []string { return append(s.network.From("iso0"), s.network.From("priv0")...) }
	fake.WaitFor(t, fmt.Sprint(n, " datagrams"), func() bool {
		return len(sent()) >= n && s.InMemory() == 0 && (s.spool == nil || s.spool.Len() == 0)
	})
	return sent()
}

// only are the lines that a group has.
func only(group string, lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, group+" ") })
}

// waits are the ways in which a message may wait when its rules change: in memory, on disk,
// or on disk for the next process.
func waits(t *testing.T, test func(t *testing.T, dir string, change func(s *sender, rules ...mapping.SendRule) *sender)) {
	for _, way := range []string{"in memory", "on disk", "over a restart"} {
		t.Run(way, func(t *testing.T) {
			dir := ""
			if way != "in memory" {
				dir = t.TempDir()
			}
			test(t, dir, func(s *sender, rules ...mapping.SendRule) *sender {
				if way != "over a restart" {
					s.reload(t, rules...)
					return s
				}
				s.end()
				return start(t, dir, rules...)
			})
		})
	}
}

// What waits goes by what the rule is, not by its name alone.
func TestARenamedRuleKeepsWhatWaits(t *testing.T) {
	waits(t, func(t *testing.T, dir string, change func(s *sender, rules ...mapping.SendRule) *sender) {
		s := start(t, dir, fake.SendRule(t, "old", "t", "239.1.1.1:5000"))
		s.numbered("t", 0, 19)
		s = change(s, fake.SendRule(t, "new", "t", "239.1.1.1:5000"))
		s.numbered("t", 20, 29) // behind them
		fake.InOrder(t, s.up(t, 30), 29)
	})
}

func TestRulesThatSwapTheirNamesKeepWhatWaits(t *testing.T) {
	rules := func(a, b string) []mapping.SendRule {
		return []mapping.SendRule{fake.SendRule(t, a, "a", "239.1.1.1:5000"), fake.SendRule(t, b, "b", "239.1.1.2:5000", fake.OnPriv)}
	}
	waits(t, func(t *testing.T, dir string, change func(s *sender, rules ...mapping.SendRule) *sender) {
		s := start(t, dir, rules("one", "two")...)
		s.numbered("a", 0, 19)
		s.numbered("b", 0, 19)
		s = change(s, rules("two", "one")...)
		s.numbered("a", 20, 29)
		s = change(s, rules("one", "two")...) // and back, with what has come meanwhile
		s.numbered("a", 30, 39)
		s.numbered("b", 20, 29)
		sent := s.up(t, 70)
		fake.InOrder(t, only("239.1.1.1:5000", sent), 39)
		fake.InOrder(t, only("239.1.1.2:5000", sent), 29)
	})
}

// A rule that is changed under its name, and then renamed, and then is what it was.
func TestARuleThatChangesStepByStepKeepsWhatWaitsInOrder(t *testing.T) {
	for way, dir := range map[string]string{"in memory": "", "on disk": t.TempDir()} {
		first := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
		s := start(t, dir, first)
		for i, rule := range []mapping.SendRule{
			fake.SendRule(t, "r", "t", "239.1.1.2:5000"), fake.SendRule(t, "other", "t", "239.1.1.2:5000"),
			fake.SendRule(t, "other", "#", "239.1.1.1:5000", fake.OnPriv), fake.SendRule(t, "other", "t", "239.1.1.1:5000"), first,
		} {
			s.numbered("t", 10*i, 10*i+9)
			s.reload(t, rule)
		}
		sent := s.up(t, 50)
		fake.InOrder(t, sent, 49)
		if got := len(only("239.1.1.1:5000", sent)); got != 50 {
			t.Errorf("%s: %d of 50 went where the rule sends now", way, got)
		}
	}
}

// The disk keeps the latest of each topic for a source that is away, and no other is sent,
// however many came in one piece, and whichever process they came to.
func TestOfALatestRuleTheDiskSendsOneMessageOfATopic(t *testing.T) {
	latest := func(name string, change ...func(*mapping.SendRule)) mapping.SendRule {
		return fake.SendRule(t, name, "t/{id}", "239.1.1.{id}:5000", append(change, fake.OnDown(mapping.OnDownLatest))...)
	}
	for way, change := range map[string]func(t *testing.T, s *sender, dir string) *sender{
		"the same process": func(_ *testing.T, s *sender, _ string) *sender { return s },
		"the next process": func(t *testing.T, s *sender, dir string) *sender {
			s.end()
			return start(t, dir, latest("r"))
		},
		"another name": func(t *testing.T, s *sender, _ string) *sender {
			s.reload(t, latest("other"))
			return s
		},
		"the next process, another name and source": func(t *testing.T, s *sender, dir string) *sender {
			s.end()
			s = start(t, dir, latest("other"))
			s.numbered("t/1", 800, 800)
			s.numbered("t/2", 1000, 1000)
			s.reload(t, latest("other", fake.OnPriv))
			return s
		},
	} {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, dir, latest("r"))
			for id := 1; id <= 3; id++ {
				s.numbered(fmt.Sprint("t/", id), 0, 999)
			}
			s.numbered("t/1", 700, 799)
			s = change(t, s, dir)
			s.numbered("t/1", 900, 900)
			s.numbered("t/4", 0, 0)
			sent := s.up(t, 4)
			slices.Sort(sent)
			want := []string{"239.1.1.1:5000 900", "239.1.1.2:5000 999", "239.1.1.3:5000 999", "239.1.1.4:5000 0"}
			if way == "the next process, another name and source" {
				want[1] = "239.1.1.2:5000 1000"
			}
			if !slices.Equal(sent, want) {
				t.Errorf("sent %d, the first %q", len(sent), sent[:min(len(sent), 8)])
			}
			view := s.working.View(nil, time.Now())
			if got := view.Status(s.working.Rules[0], 0); len(got.Drops) > 0 {
				t.Errorf("drops %v", got.Drops)
			}
		})
	}
}

// What is lost of rules that are gone shows under their names.
func TestTheLossesOfRemovedRulesShow(t *testing.T) {
	s := start(t, "", fake.SendRule(t, "old", "t", "239.1.1.1:5000"))
	s.numbered("t", 0, 19)
	s.reload(t)
	s.reload(t)
	removed := func() (n uint64) {
		for name, c := range s.Removed() {
			if name == "old" {
				n += c.Of(account.ReasonRemoved)
			}
		}
		return n
	}
	if got := removed(); got != 20 {
		t.Errorf("%d counted as removed, want 20", got)
	}
	s.reload(t, fake.SendRule(t, "old", "t", "239.1.1.1:5000"))
	if got := s.working.Rules[0].Of(account.ReasonRemoved); got != 20 || removed() != 0 {
		t.Errorf("back, it has %d, and of rules that are gone there are %d; want 20 and none", got, removed())
	}
}

// What stays with the broker for want of room is asked for as soon as there is some.
func TestRoomForWhatTheBrokerIsToRepeatIsToldAtOnce(t *testing.T) {
	s := startWith(t, 64<<10, "", fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	s.up(t, 0)
	socket := s.network.LastSocket()
	socket.Allow(0, nil)
	<-socket.Free
	s.numbered("t", 0, 999)
	select {
	case <-s.RoomAgain():
		t.Error("there is no room yet")
	default:
	}
	socket.Allow(1000, nil)
	<-s.RoomAgain()
	asked := 0
	s.RequestRedelivery(time.Now(), func() { asked++ })
	if asked != 1 {
		t.Errorf("asked %d times for what there was no room for", asked)
	}
}
