package receive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Whoever says the same again and again is no loop, whatever the rhythm.
func TestHonestSourcesOfEqualDatagramsAllArrive(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(w *world) (sent int)
	}{
		{"a steady stream", func(w *world) int { return w.stream(fake.Device, 400, time.Minute, same("x")) }},
		{"constant-bitrate video, three of four datagrams equal", func(w *world) int {
			return w.stream(fake.Device, 1000, 20*time.Second, func(i int) string {
				if i%4 == 0 {
					return fmt.Sprint("picture ", i)
				}
				return "null packets"
			})
		}},
		{"one that ends while it is tested", func(w *world) (sent int) {
			for w.bridge.working.Rules[0].Testing() == 0 {
				sent += w.stream(fake.Device, 500, 10*time.Millisecond, same("x"))
			}
			return sent
		}},
		{"bursts once a second", func(w *world) (sent int) {
			for range 30 {
				for range 150 {
					w.say(fake.Device, "x")
				}
				sent += 150
				time.Sleep(time.Second)
			}
			return sent
		}},
		{"bursts with rests of two seconds between, then steady", func(w *world) (sent int) {
			for range 5 {
				sent += w.stream(fake.Device, 1000, 3500*time.Millisecond, same("x"))
				time.Sleep(2 * time.Second)
			}
			return sent
		}},
		{"five hundred sensors that say the same", func(w *world) (sent int) {
			for i := range 20_000 {
				w.say(fmt.Sprintf("172.17.1.%d:%d", i%250, 1000+i%500), "21.5")
				time.Sleep(time.Millisecond)
				sent++
			}
			return sent
		}},
		{"a flood of 405 that nobody asked for", func(w *world) int { return w.stream("172.17.0.66:1", 101, 4010*time.Millisecond, same("x")) }},
		{"a stream of jittered rhythm", func(w *world) (sent int) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 10_000 {
				w.say(fake.Device, "x")
				time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
				sent++
			}
			return sent
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			around(t, rigOptions{}, "t", func(w *world) {
				sent := c.play(w)
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := len(w.order); got != sent || w.dropped() != 0 {
					t.Errorf("of %d datagrams %d were published, and %d dropped", sent, got, w.dropped())
				}
				if s := w.bridge.Status().Receive[0]; s.State != account.StateUp {
					t.Errorf("the rule is %s (%s)", s.State, s.Reason)
				}
			})
		})
	}
}

// Where the table itself shows the loop, and the guard is off, no test is needed: and
// however much is on its way still, it ends.
func TestWithoutTheGuardALoopOfTheTableIsStoppedAtOnce(t *testing.T) {
	send, receive := cycle(t)
	receive = append(receive, fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "calm"))
	got := receiving(t, rigOptions{Loops: loopguard.Options{Breaker: 100}}, send, receive, func(b *rig, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		for range 1000 {
			r.Hear(fake.Device, "again")
			time.Sleep(5 * time.Millisecond)
		}
		r.Hear(fake.Device, "another")
		n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "calm")
		synctest.Wait()
		s := b.Status().Receive
		if s[0].State != account.StateDegraded || !strings.Contains(s[0].Reason, "comes back") || s[1].State != account.StateUp {
			t.Errorf("%s (%s), the other %s", s[0].State, s[0].Reason, s[1].State)
		}
		if published, dropped := len(b.publisher().Published()), int(s[0].Drops["breaker"]); published+dropped != 1002 || dropped < 400 {
			t.Errorf("%d published, %d dropped", published, dropped)
		}
		time.Sleep(loopguard.Cooldown)
		r.Hear(fake.Device, "again")
		synctest.Wait()
		if s := b.Status().Receive[0]; s.State != account.StateUp {
			t.Errorf("after its rest the rule is %s (%s)", s.State, s.Reason)
		}
	})
	if diff := cmp.Diff([]string{"both again"}, got[len(got)-1:]); diff != "" {
		t.Error(diff)
	}
}

// What is withheld for a test goes on in its order, whatever it is.
func TestATestKeepsTheOrderAndDelaysLittle(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		sent := w.stream(fake.Device, 1000, 20*time.Second, func(i int) string {
			if i%4 == 0 {
				return fmt.Sprint("picture ", i)
			}
			return "null"
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(w.order) != sent {
			t.Fatalf("%d of %d", len(w.order), sent)
		}
		for i, got := range w.order {
			if want := fmt.Sprint("t picture ", i); i%4 == 0 && got != want {
				t.Fatalf("message %d is %q, want %q", i, got, want)
			}
		}
	})
}

func TestAStreamIsTestedOftenAtFirstAndSeldomThen(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		var tests [20]int // in each minute
		began, was := time.Now(), 0
		for minute := 0; minute < len(tests); minute = int(time.Since(began) / time.Minute) {
			w.stream(fake.Device, 150, 100*time.Millisecond, same("x"))
			now := w.bridge.working.Rules[0].Testing()
			if now > was {
				tests[minute]++
			}
			was = now
		}
		first := 0
		for _, n := range tests[:6] {
			first += n
		}
		if first != 16 || slices.Max(tests[6:]) > 0 {
			t.Errorf("tests in each minute: %v, want 16 in the first six and none after", tests)
		}
	})
}

// A loop ends, whoever hands our messages back and however long that takes, and
// others on the topic and of the rule are delayed a little and lose nothing.
func TestALoopThroughOtherProgramsEnds(t *testing.T) {
	for _, c := range []struct {
		name     string
		programs map[string]time.Duration
		change   []func(*mapping.ReceiveRule)
	}{
		{"one program", map[string]time.Duration{"172.17.0.7:5": 2 * time.Millisecond}, nil},
		{"a program behind a slow broker", map[string]time.Duration{"172.17.0.7:5": 8 * time.Millisecond}, nil},
		{"two programs, each message doubled", map[string]time.Duration{"172.17.0.7:5": 300 * time.Millisecond, "172.17.0.8:5": 301 * time.Millisecond}, nil},
		{"two programs, each known as a sender", map[string]time.Duration{"172.17.0.7:5": 300 * time.Millisecond, "172.17.0.8:5": 301 * time.Millisecond}, ofNamedSources},
	} {
		t.Run(c.name, func(t *testing.T) {
			around(t, rigOptions{}, "t", func(w *world) {
				var log bytes.Buffer
				w.bridge.working.Rules[0].Log = slog.New(slog.NewTextHandler(&log, nil))
				for source, after := range c.programs {
					w.program(source, after)
				}
				w.say(fake.Device, "round and round")
				time.Sleep(30 * time.Second)
				synctest.Wait()
				w.ends(c.name)
				if w.dropped() == 0 {
					t.Error("nothing counted as breaker")
				}
				if n := strings.Count(log.String(), "comes back through other programs"); n != 1 {
					t.Errorf("%d lines tell of it:\n%s", n, log.String())
				}
			}, c.change...)
		})
	}
}

// While a loop goes round on its topic, others are heard, and so is the program that
// hands it round, with whatever else it says.
func TestALoopTakesNobodyElseWithIt(t *testing.T) {
	t.Run("nothing known of senders", func(t *testing.T) { loopAmongOthers(t) })
	t.Run("each known", func(t *testing.T) { loopAmongOthers(t, ofNamedSources...) })
}

// ofNamedSources has a rule know each sender by itself.
var ofNamedSources = []func(*mapping.ReceiveRule){func(r *mapping.ReceiveRule) {
	r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}
}}

func loopAmongOthers(t *testing.T, change ...func(*mapping.ReceiveRule)) {
	around(t, rigOptions{}, "t", func(w *world) {
		const looping = "172.17.0.7:5"
		w.loops = append(w.loops, func(p session.Publication) {
			if string(p.Payload) == "round" {
				time.AfterFunc(2*time.Millisecond, func() { w.say(looping, "round") })
			}
		})
		sent := 0
		w.say(fake.Device, "round")
		for i := range 600 { // 30s, over the whole of it
			w.say(fake.Device, fmt.Sprint("reading ", i))
			w.say(looping, fmt.Sprint("its own ", i))
			w.say("172.17.0.9:1", "alarm")
			sent += 3
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		round, last := 0, -1
		for _, text := range w.order {
			var i int
			if _, err := fmt.Sscanf(text, "t reading %d", &i); err == nil {
				if i != last+1 {
					t.Errorf("reading %d follows %d", i, last)
				}
				last = i
			}
			if text == "t round" {
				round++
			}
		}
		synctest.Wait()
		if got := len(w.order) - round; got != sent {
			t.Errorf("of %d messages of others %d were published", sent, got)
		}
		if w.dropped() == 0 || round > 2500 {
			t.Errorf("it went round %d times, and %d were dropped", round, w.dropped())
		}
	}, change...)
}

// A loop that is cut is forgotten soon, and one that is set going again is cut
// sooner.
func TestAfterALoop(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		w.program("172.17.0.7:5", 2*time.Millisecond)
		w.say(fake.Device, "x")
		time.Sleep(10 * time.Second)
		first := w.count("t x")
		if s := w.bridge.Status().Receive[0]; s.State != account.StateDegraded || !strings.Contains(s.Reason, "comes back") {
			t.Errorf("%s (%s)", s.State, s.Reason)
		}
		time.Sleep(loopguard.Cooldown)
		if s := w.bridge.Status().Receive[0]; s.State != account.StateUp {
			t.Errorf("after the rest: %s (%s)", s.State, s.Reason)
		}
		w.say(fake.Device, "x")
		time.Sleep(10 * time.Second)
		if again := w.count("t x") - first; again == 0 || again > first/2 {
			t.Errorf("it went round %d times at first, then %d", first, again)
		}
		w.ends("the second time")
		time.Sleep(loopguard.Cooldown)
		w.mu.Lock()
		w.loops = nil // the other program is mended
		w.mu.Unlock()
		synctest.Wait()
		before := len(w.order)
		w.say("172.17.0.7:5", "x", "x")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(w.order) - before; got != 2 {
			t.Errorf("of 2 datagrams after the loop was cut %d were published", got)
		}
	})
}

// A source that was taken for a loop, and goes on though nothing is published, was
// none.
func TestAVerdictThatWasWrongIsTakenBack(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		r := w.bridge.working.Rules[0]
		r.Condemn(receive.Print(netip.MustParseAddr("172.17.0.9"), "t", "x"))
		sent := w.stream(fake.Device, 200, 20*time.Second, same("x"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := len(w.order); got < sent-3*200 || got == sent {
			t.Errorf("%d of %d, want all but those of the first seconds", got, sent)
		}
	})
}

// Whoever forges the datagrams of a device so that they look like a loop does not silence
// the device.
func TestALoopThatIsForgedSilencesNobody(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		forging := true
		w.loops = append(w.loops, func(session.Publication) {
			if forging {
				time.AfterFunc(2*time.Millisecond, func() { w.say(fake.Device, "alarm") })
			}
		})
		w.say(fake.Device, "alarm")
		time.Sleep(10 * time.Second)
		if w.dropped() == 0 {
			t.Fatal("it is taken for no loop: this test is none")
		}
		w.mu.Lock()
		forging = false
		before := w.published["t alarm"]
		w.mu.Unlock()
		for range 9 {
			time.Sleep(loopguard.CarryAgain)
			w.say(fake.Device, "alarm")
		}
		synctest.Wait()
		if got := w.count("t alarm") - before; got != 9 {
			t.Errorf("%d of 9 alarms of the device arrive", got)
		}
	})
}

// Two bridges, each with a send rule that makes a datagram of every message: each
// hears the other. What one publishes both send, so it doubles each time, up to what
// the broker can carry and keeps in its queues.
func TestALoopOfTwoBridgesEnds(t *testing.T) {
	const perMillisecond = 4
	for _, c := range []struct {
		late  time.Duration // how much later the second one begins its count of seconds
		queue int           // of the broker, for each bridge
		trust bool          // the second one has taken it for honest before, so they test at other times
	}{
		{0, 100, false},
		{300 * time.Millisecond, 1000, false},
		{700 * time.Millisecond, 1000, false},
		{500 * time.Millisecond, 2_000, false},
		{0, 100, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var bridges [2]*rig
			var to [2]*fake.Receiver
			var queues [2]chan string
			var messages atomic.Int64
			var done atomic.Bool
			var running sync.WaitGroup
			defer running.Wait()
			defer done.Store(true)
			hear := func(i int, payloads []string) { // datagrams of the other one
				var batch []multicast.Datagram
				for _, p := range payloads {
					batch = append(batch, multicast.Datagram{To: to[i].Options.Group,
						Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 1, byte(1 - i)}), 5), Payload: []byte(p)})
				}
				if len(batch) == 0 {
					return
				}
				select {
				case to[i].In <- batch:
				case <-to[i].Done:
				}
			}
			var publish publisherFunc = func(batch []session.Publication) {
				for _, p := range batch {
					p.Origin.Published(1, p.Size())
					messages.Add(1)
					for _, q := range queues {
						select {
						case q <- string(p.Payload):
						default: // the broker drops it
						}
					}
				}
			}
			for i := range bridges {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				bridges[i] = newRig(t, n, rigOptions{QueueSize: 64 << 20, Loops: loopguard.Options{Breaker: 100}}, nil,
					[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "t")})
				bridges[i].receive.PublishTo(publish)
				to[i] = n.LastReceiver()
				queues[i] = make(chan string, c.queue)
				// what a bridge gets of the broker it sends, and the other one hears it
				running.Go(func() {
					for !done.Load() {
						time.Sleep(time.Millisecond)
						var some []string
						for range min(perMillisecond, len(queues[i])) {
							some = append(some, <-queues[i])
						}
						hear(1-i, some)
					}
				})
			}
			if c.trust {
				for _, payload := range []string{"some other message", "yet another message", "round"} {
					bridges[1].working.Rules[0].Pardon(receive.Print(netip.AddrFrom4([4]byte{172, 17, 1, 0}), "t", payload))
				}
			}
			hear(0, []string{"some other message"})
			time.Sleep(c.late)
			hear(1, []string{"yet another message"})
			time.Sleep(100 * time.Millisecond)
			hear(0, []string{"round"})
			const bound = 150 * time.Minute // two series of tests and what lies between: one in fifty goes on after the first
			began := time.Now()
			quiet := func() bool {
				before := messages.Load()
				time.Sleep(4 * time.Second)
				return messages.Load() == before
			}
			for !quiet() {
				if time.Since(began) > bound {
					t.Fatalf("late by %v, queue %d: it goes on, with %d messages by now", c.late, c.queue, messages.Load())
				}
			}
			t.Logf("late by %v, queue %d: over after %v and %d messages", c.late, c.queue, time.Since(began)-4*time.Second, messages.Load())
		})
	}
}

// A reload and the end let go what is withheld.
func TestWhatIsWithheldIsNotLostWhenItsRuleEnds(t *testing.T) {
	around(t, rigOptions{}, "t", func(w *world) {
		sent := 0
		for w.bridge.working.Rules[0].Testing() == 0 {
			sent += w.stream(fake.Device, 500, 10*time.Millisecond, same("x"))
		}
		sent += w.stream(fake.Device, 500, 100*time.Millisecond, same("x"))
		w.bridge.working.Rules[0].Flush()
		synctest.Wait()
		if got := len(w.order); got != sent {
			t.Errorf("of %d datagrams %d were published", sent, got)
		}
	})
}

// Where there is no room to withhold, nothing is withheld, and nothing lost.
func TestATestNeedsRoom(t *testing.T) {
	around(t, rigOptions{QueueSize: 64 << 10}, "t", func(w *world) {
		sent := w.stream(fake.Device, 1000, 10*time.Second, same("x"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := len(w.order); got != sent || w.dropped() != 0 {
			t.Errorf("of %d datagrams %d were published", sent, got)
		}
	})
}
