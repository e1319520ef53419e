package receive_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// The senders of a redundant pair, and somebody else.
const (
	legA = "172.17.0.11:5000"
	legB = "172.17.0.12:5000"
	legC = "172.17.0.13:5000"
)

func merges(d time.Duration) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Merge = d }
}

// said is a datagram that a leg brings at a time.
type said struct {
	at      time.Duration
	leg     string
	payload string
}

// twoLegs are n datagrams, one in a step, as two legs bring them, of which each loses some; lost
// are those that neither brings. What number i says is of content.
func twoLegs(seed uint64, n int, step, skew time.Duration, loss float64, content func(int) string) (all []said, sent []string) {
	random := newRandom(seed)
	for i := range n {
		at, brought := time.Duration(i)*step, false
		if random.Float64() >= loss {
			all, brought = append(all, said{at, legA, content(i)}), true
		}
		if random.Float64() >= loss {
			all, brought = append(all, said{at + skew, legB, content(i)}), true
		}
		if brought {
			sent = append(sent, content(i))
		}
	}
	slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(a.at, b.at) })
	return all, sent
}

// bring has a reader take what is said, each at its time. Only in a bubble.
func bring(r receive.Reader, all []said) {
	start := time.Now()
	for _, s := range all {
		time.Sleep(time.Until(start.Add(s.at)))
		say(r, s.leg, s.payload)
	}
}

func say(r receive.Reader, leg string, payloads ...string) {
	var batch []multicast.Datagram
	for _, p := range payloads {
		batch = append(batch, multicast.Datagram{To: netip.MustParseAddrPort("239.1.1.1:5000"), Source: netip.MustParseAddrPort(leg), Payload: []byte(p)})
	}
	r.Handle(batch)
}

// mergingOf has a rule hear what is said, and returns what it publishes.
func mergingOf(t *testing.T, rule mapping.ReceiveRule, all []said, after func(*rig)) (got []string) {
	t.Helper()
	remembering(t, []mapping.ReceiveRule{rule}, func(b *rig, p *published) {
		bring(b.working.Reader(0), all)
		got = p.take()
		if after != nil {
			after(b)
		}
	})
	for i := range got {
		_, got[i], _ = strings.Cut(got[i], " ")
	}
	return got
}

func pair(t testing.TB, d time.Duration, change ...func(*mapping.ReceiveRule)) mapping.ReceiveRule {
	return fake.ReceiveRule(t, "pair", "239.1.1.1:5000", "t", append(change, merges(d))...)
}

// What a leg has lost the other one brings, and nothing is published twice.
func TestOfTwoLegsTheUnionIsPublishedOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		content func(int) string
	}{
		{"numbered", strconv.Itoa},
		{"each content again when the time is over", func(i int) string { return strconv.Itoa(i % 200) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, want := twoLegs(7, 10_000, time.Millisecond, 30*time.Millisecond, 0.05, c.content)
			var s receive.Status
			got := mergingOf(t, pair(t, 100*time.Millisecond), all, func(b *rig) {
				time.Sleep(time.Second)
				b.receive.WatchLegs(time.Now())
				s = b.Status().Receive[0]
			})
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("published %d, want the %d that a leg brought", len(got), len(want))
			}
			if lost := 10_000 - len(want); lost == 0 || len(all) == 20_000 {
				t.Fatalf("%d lost on both legs, %d heard: the test has lost nothing", lost, len(all))
			}
			a, b := s.Legs[0], s.Legs[1]
			// All that a leg did not bring is missing, but for the first few, by which legs are known.
			for _, l := range []receive.Leg{a, b} {
				if lacks := uint64(len(want)) - l.Received; l.Missing > lacks || l.Missing+5 < lacks {
					t.Errorf("%s: %d missing, want about %d", l.Source, l.Missing, lacks)
				}
			}
			if s.Filtered["duplicate"] != uint64(len(all)-len(want)) || a.Duplicates+b.Duplicates != s.Filtered["duplicate"] {
				t.Errorf("filtered %v, legs %+v, want %d duplicates", s.Filtered, s.Legs, len(all)-len(want))
			}
			if b.Lag != 0.03 || b.MaxLag != 0.03 || a.Lag != 0 {
				t.Errorf("lag %v, %v at most, want 30ms", b.Lag, b.MaxLag)
			}
		})
	}
}

// A device that repeats itself is heard each time, be it by a leg that has nobody beside it.
func TestARepetitionByTheSameLegIsNoDuplicate(t *testing.T) {
	for _, step := range []time.Duration{0, 5 * time.Millisecond, time.Second} {
		for _, legs := range [][]string{{legA}, {legA, legB}, {legA, legB, legC}} {
			var all []said
			for i := range 20 {
				for k, leg := range legs {
					all = append(all, said{time.Duration(i)*step + time.Duration(k)*30*time.Millisecond, leg, "alive"})
				}
			}
			slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(a.at, b.at) })
			if got := mergingOf(t, pair(t, 200*time.Millisecond), all, nil); len(got) != 20 {
				t.Errorf("each %v by %d legs: published %d times, want 20", step, len(legs), len(got))
			}
		}
	}
}

// Of a leg that has lost an equal datagram the next one counts for it, until the time is over.
func TestALegThatLacksOneIsLevelAgainWhenTheTimeIsOver(t *testing.T) {
	const x = "x"
	all := []said{
		{0, legA, x}, {1, legA, x}, {2, legB, x}, // B lacks the first, or the second
		{50 * time.Millisecond, legA, x}, {51 * time.Millisecond, legB, x},
		{time.Second, legB, x}, {time.Second + 1, legA, x},
		{2 * time.Second, legA, x}, {2*time.Second + 1, legB, x},
	}
	if got := mergingOf(t, pair(t, 100*time.Millisecond), all, nil); len(got) != 5 {
		t.Errorf("published %d times, want 5", len(got))
	}
}

// A copy that comes after the time is news.
func TestTheTimeOfMergeEnds(t *testing.T) {
	all := []said{{0, legA, "x"}, {100 * time.Millisecond, legB, "x"}, {time.Second, legA, "y"}, {time.Second + 101*time.Millisecond, legB, "y"}}
	if got := mergingOf(t, pair(t, 100*time.Millisecond), all, nil); strings.Join(got, ",") != "x,y,y" {
		t.Errorf("published %q", got)
	}
}

// Whoever forges a leg has what it says published, and nothing else suppressed but the same.
func TestAForgedLegSuppressesNothingThatIsNotPublished(t *testing.T) {
	random := newRandom(3)
	var all []said
	count := make(map[string]int)
	for i := range 2000 {
		at := time.Duration(i) * time.Millisecond
		content := strconv.Itoa(i)
		for _, s := range []said{{at, legA, content}, {at + 10*time.Millisecond, legB, content}} {
			if random.Float64() >= 0.05 {
				all = append(all, s)
				count[content]++
			}
		}
		// The forger guesses some before they come, repeats others, and says things of his own.
		switch random.IntN(4) {
		case 0:
			all = append(all, said{at - 5*time.Millisecond, legC, content})
		case 1:
			all = append(all, said{at + 5*time.Millisecond, legC, content}, said{at + 6*time.Millisecond, legC, content})
		case 2:
			all = append(all, said{at, legC, "forged" + content})
		}
	}
	slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(a.at, b.at) })
	got := mergingOf(t, pair(t, 50*time.Millisecond), all, nil)
	for content := range count {
		if !slices.Contains(got, content) {
			t.Errorf("%s is not published", content)
		}
	}
}

// What goes to another topic is another message: nothing is missing on a topic.
func TestWhatGoesToAnotherTopicIsNoDuplicate(t *testing.T) {
	for topic, want := range map[string][]string{
		"t":                      {"t x"},
		"t/{source}":             {"t/172.17.0.11 x", "t/172.17.0.12 x"},
		"t/{u8@0}":               {"t/120 x"},
		"t/{u8@0}/{source}":      {"t/120/172.17.0.11 x", "t/120/172.17.0.12 x"},
		"t/{(source&255)/20}":    {"t/0 x"},
		"t/{source_port}/{u8@0}": {"t/5000/120 x"},
	} {
		rule := fake.ReceiveRule(t, "pair", "239.1.1.1:5000", topic, merges(time.Second))
		remembering(t, []mapping.ReceiveRule{rule}, func(b *rig, p *published) {
			say(b.working.Reader(0), legA, "x")
			say(b.working.Reader(0), legB, "x")
			if got := p.take(); !slices.Equal(got, want) {
				t.Errorf("%s: published %q, want %q", topic, got, want)
			}
		})
	}
}

// The two ways of a stream may be two groups, as in SMPTE ST 2022-7; where the topic names the
// group they are two streams. What one sender says to two groups is said twice.
func TestTwoGroupsMayBeTwoLegs(t *testing.T) {
	for topic, want := range map[string]string{
		"t":                        "t x,t y,t y",
		"t/{group}":                "t/239.1.1.1 x,t/239.1.1.2 x,t/239.1.1.1 y,t/239.1.1.2 y",
		"{text@0:1}/{destination}": "x/239.1.1.1 x,x/239.1.1.2 x,y/239.1.1.1 y,y/239.1.1.2 y",
	} {
		rule := fake.ReceiveRule(t, "pair", "239.1.1.1-239.1.1.2:5000", topic, merges(time.Second))
		got := receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{rule}, func(b *rig, n *fake.Network) {
			for _, s := range []struct{ group, from, payload string }{
				{"239.1.1.1:5000", legA, "x"}, {"239.1.1.2:5000", legB, "x"},
				{"239.1.1.1:5000", legA, "y"}, {"239.1.1.2:5000", legA, "y"},
			} {
				n.At(s.group, "iso0").Hear(s.from, s.payload)
				synctest.Wait()
			}
		})
		if strings.Join(got, ",") != want {
			t.Errorf("%s: published %q, want %s", topic, got, want)
		}
	}
}

// merge comes after source and before all else.
func TestMergeComesBeforeWhatElseARuleDoes(t *testing.T) {
	both := []said{{0, legA, "a"}, {1, legB, "a"}, {2, legA, "b\na"}, {3, legB, "b\na"}, {4, legC, "c"}, {5, legA, "c"}}
	for _, c := range []struct {
		name, want string
		change     func(*mapping.ReceiveRule)
		filtered   map[string]uint64
	}{
		{"source", "a,b\na,c", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.8/29"), netip.MustParsePrefix("10.0.0.0/8")}
		}, map[string]uint64{"duplicate": 3}},
		{"other sources", "a,b\na,c", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.8/30"), netip.MustParsePrefix("172.17.0.12/32")}
		}, map[string]uint64{"duplicate": 2, "source": 1}},
		{"split", "a,b,a,c", func(r *mapping.ReceiveRule) { r.Split = mapping.SplitLine }, map[string]uint64{"duplicate": 3}},
		{"on_change", "a,b\na,c", func(r *mapping.ReceiveRule) { r.OnChange = true }, map[string]uint64{"duplicate": 3}},
		{"every", "a,c", fake.Every(time.Second), map[string]uint64{"duplicate": 3, "superseded": 1}},
		{"when", "b\na", func(r *mapping.ReceiveRule) {
			if err := r.When.UnmarshalText([]byte("size > 1")); err != nil {
				t.Fatal(err)
			}
		}, map[string]uint64{"duplicate": 3, "when": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			remembering(t, []mapping.ReceiveRule{pair(t, 10*time.Millisecond, c.change)}, func(b *rig, p *published) {
				bring(b.working.Reader(0), both)
				time.Sleep(2 * time.Second)
				got := strings.ReplaceAll(strings.Join(p.take(), ","), "t ", "")
				if got != c.want {
					t.Errorf("published %q, want %q", got, c.want)
				}
				if diff := gocmp.Diff(c.filtered, b.Status().Receive[0].Filtered); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A reload that keeps the rule, or changes it, keeps what it has heard; one that takes merge
// away gives its memory back.
func TestWhatIsMergedOutlivesAReload(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, time.Second)}, func(b *rig, p *published) {
		say(b.working.Reader(0), legA, "1", "2", "3")
		other := fake.ReceiveRule(t, "other", "239.1.1.2:5000", "o")
		b.reload(t, nil, []mapping.ReceiveRule{pair(t, time.Second), other})
		say(b.working.Reader(0), legB, "1")
		b.reload(t, nil, []mapping.ReceiveRule{pair(t, 2*time.Second, fake.Every(time.Nanosecond)), other})
		say(b.working.Reader(0), legB, "2")
		time.Sleep(1500 * time.Millisecond)
		say(b.working.Reader(0), legB, "3")
		if got := p.take(); len(got) != 3 {
			t.Errorf("published %q, want each once", got)
		}
		if legs := b.Status().Receive[0].Legs; len(legs) != 2 || legs[1].Duplicates != 3 {
			t.Errorf("%+v", legs)
		}
		if b.receive.MergeBytes() == 0 {
			t.Error("nothing counts")
		}
		b.reload(t, nil, []mapping.ReceiveRule{pair(t, 0)})
		say(b.working.Reader(0), legB, "1")
		if got := p.take(); len(got) != 1 {
			t.Errorf("published %q without merge", got)
		}
		if got := b.receive.MergeBytes(); got != 0 {
			t.Errorf("%d bytes are kept for a rule that does not merge", got)
		}
	})
}

// Two rules that hear the same do not share what they have heard.
func TestEachRuleMergesForItself(t *testing.T) {
	rules := []mapping.ReceiveRule{pair(t, time.Second), fake.ReceiveRule(t, "b", "239.1.1.1:5000", "t", merges(time.Second)), fake.ReceiveRule(t, "c", "239.1.1.1:5000", "u")}
	remembering(t, rules, func(b *rig, p *published) {
		say(b.working.Reader(0), legA, "x")
		say(b.working.Reader(0), legB, "x")
		if got, want := fmt.Sprint(p.take()), "[t x t x u x u x]"; got != want {
			t.Errorf("published %s, want %s", got, want)
		}
	})
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// A rule with several interfaces has them in common: what comes by two networks is published
// once, also where one of them goes in a reload.
func TestTwoInterfacesOfARuleAreTwoLegs(t *testing.T) {
	both := fake.ReceiveRule(t, "pair", "239.1.1.1:5000", "t/{source}", merges(time.Second), func(r *mapping.ReceiveRule) { r.Interface = "iso0,priv0" })
	got := receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{both}, func(b *rig, n *fake.Network) {
		iso, priv := n.At("239.1.1.1:5000", "iso0"), n.At("239.1.1.1:5000", "priv0")
		for _, s := range []struct {
			by      *fake.Receiver
			payload string
		}{{iso, "1"}, {priv, "1"}, {priv, "2"}, {iso, "2"}, {iso, "2"}, {iso, "3"}, {priv, "4"}} {
			s.by.Hear(legA, s.payload)
			synctest.Wait()
		}
		for _, s := range b.Status().Receive {
			if len(s.Legs) != 2 || s.Legs[0].Interface != "iso0" || s.Legs[1].Interface != "priv0" || s.Legs[0].Received != 4 || s.Legs[1].Duplicates != 1 {
				t.Errorf("%s: %+v", s.Name, s.Legs)
			}
		}
		b.reload(t, nil, []mapping.ReceiveRule{pair(t, time.Second, func(r *mapping.ReceiveRule) { r.Topic = both.Topic })})
		iso.Hear(legA, "4")
		synctest.Wait()
	})
	if want := "t/172.17.0.11 1,t/172.17.0.11 2,t/172.17.0.11 2,t/172.17.0.11 3,t/172.17.0.11 4"; strings.Join(got, ",") != want {
		t.Errorf("published %q, want %s", got, want)
	}
}
