package receive_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// flood has a reader take a datagram of each of many senders that are made up.
func flood(r receive.Reader, senders int, payloads ...string) {
	for i := range senders {
		flood1(r, i, payloads...)
	}
}

// fill has as many made-up senders become known as there are places; with every each has
// something that waits.
func fill(r receive.Reader) {
	flood(r, enough, "forged", "again")
	time.Sleep(2 * time.Second)
	for i := range enough {
		flood1(r, enough-1-i, "forged")
	}
	time.Sleep(2 * time.Second)
}

// flood1 is one of them.
func flood1(r receive.Reader, i int, payloads ...string) {
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	var batch []multicast.Datagram
	for _, p := range payloads {
		batch = append(batch, multicast.Datagram{Source: from, Payload: []byte(p)})
	}
	r.Handle(batch)
}

// published counts what is published, but on topics of made-up senders.
type published struct {
	mu    sync.Mutex
	lines []string
}

func (p *published) PublishBatch(batch []session.Publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range batch {
		m.Origin.Published(1, m.Size())
		if topic := string(m.Topic); !strings.Contains(topic, "/10.") {
			p.lines = append(p.lines, topic+" "+string(m.Payload))
		}
	}
}

func (p *published) take() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.lines
	p.lines = nil
	return lines
}

func remembering(t *testing.T, rules []mapping.ReceiveRule, script func(b *rig, p *published)) {
	t.Helper()
	rememberingWith(t, rigOptions{QueueSize: 64 << 20, TopicBytes: places}, nil, rules, script)
}

func rememberingWith(t *testing.T, o rigOptions, send []mapping.SendRule, rules []mapping.ReceiveRule, script func(b *rig, p *published)) {
	t.Helper()
	receiving(t, o, send, rules, func(b *rig, n *fake.Network) {
		p := new(published)
		b.receive.PublishTo(p)
		script(b, p)
	})
}

const (
	places = 2 << 20 // bytes for topics
	enough = 8000    // made-up senders: more topics than find a place there
)

// says has the devices say something, each on a topic of its own.
func says(r receive.Reader, devices int, payload string) {
	for i := range devices {
		r.Handle([]multicast.Datagram{{Source: netip.MustParseAddrPort(fmt.Sprintf("172.17.0.%d:1", i+1)), Payload: []byte(payload)}})
	}
}

// Whoever makes up senders does not have it forget what a device has said last.
func TestForgedSendersDoNotHaveOnChangeForgetADevice(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{source}", func(r *mapping.ReceiveRule) { r.OnChange = true })}
	for _, each := range []int{1, 2} {
		remembering(t, rules, func(b *rig, p *published) {
			r := b.working.Reader(0)
			says(r, 66, "x")
			time.Sleep(time.Second)
			says(r, 66, "x")
			if got := len(p.take()); got != 66 {
				t.Fatalf("%d of 66 are published", got)
			}
			for range each {
				flood(r, enough, "forged")
				time.Sleep(2 * time.Second)
			}
			says(r, 66, "x")
			if got := p.take(); got != nil {
				t.Errorf("%d times each: %d of 66 devices that say the same are published again", each, len(got))
			}
			says(r, 66, "y")
			if got := len(p.take()); got != 66 {
				t.Errorf("%d of 66 new values are published", got)
			}
			m := b.Status().Receive[0].Remembered
			if m.TopicBytes > places || m.Topics == 0 || m.SenderBytes > receive.MaxSenderBytes || m.Senders == 0 {
				t.Errorf("remembered: %+v", m)
			}
			if m.Forgotten == 0 && m.Passed == 0 {
				t.Errorf("nothing tells that topics were forgotten: %+v", m)
			}
		})
	}
}

// What finds no place is published as it comes: nothing is lost, and nothing overtakes.
func TestTopicsWithoutAPlaceAreCarriedInOrder(t *testing.T) {
	for name, change := range map[string]func(*mapping.ReceiveRule){
		"on_change": func(r *mapping.ReceiveRule) { r.OnChange = true },
		"every":     fake.Every(time.Hour),
	} {
		remembering(t, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{source}", change)}, func(b *rig, p *published) {
			r := b.working.Reader(0)
			fill(r)
			var want []string
			for i := range 20 {
				says(r, 1, fmt.Sprint("v", i))
				want = append(want, fmt.Sprint("t/172.17.0.1 v", i))
				time.Sleep(time.Second)
			}
			if diff := cmp.Diff(want, p.take()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			if m := b.Status().Receive[0].Remembered; m.Passed < 20 {
				t.Errorf("%s: %d are said to be published whatever the keys say", name, m.Passed)
			}
			time.Sleep(2 * time.Hour) // those that were made up are not used any more
			says(r, 1, "v")
			says(r, 1, "v")
			if got := p.take(); len(got) != 1 {
				t.Errorf("%s: after a while %q is published", name, got)
			}
		})
	}
}

// Of a device that is known, the latest waits, and goes when its time has come, whatever
// comes of others.
func TestEveryKeepsItsOrderThroughAFlood(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{source}", fake.Every(time.Minute))}, func(b *rig, p *published) {
		r := b.working.Reader(0)
		says(r, 1, "v1")
		says(r, 1, "v2")
		flood(r, enough, "forged", "again")
		time.Sleep(2 * time.Second)
		says(r, 1, "v3")
		flood(r, enough, "forged", "again")
		time.Sleep(2 * time.Minute)
		says(r, 1, "v4")
		if diff := cmp.Diff([]string{"t/172.17.0.1 v1", "t/172.17.0.1 v3", "t/172.17.0.1 v4"}, p.take()); diff != "" {
			t.Error(diff)
		}
	})
}

// Nor does another rule's flood take the places of a rule, or what two rules know of one topic.
func TestEachRuleHasPlacesForTopics(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "flooded", "239.1.1.1:5000", "t/{source}", onChange),
		fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "calm/{source}", onChange),
		fake.ReceiveRule(t, "plain", "239.1.1.3:5000", "calm/{source}"),
		fake.ReceiveRule(t, "fixed", "239.1.1.4:5000", "fixed", onChange),
	}
	remembering(t, rules, func(b *rig, p *published) {
		for range 2 {
			flood(b.working.Reader(0), enough, "forged")
			time.Sleep(2 * time.Second)
		}
		flood(b.working.Reader(2), enough, "forged")
		for range 3 {
			says(b.working.Reader(1), 250, "x")
			says(b.working.Reader(3), 1, "x")
		}
		if got := len(p.take()); got != 251 {
			t.Errorf("%d are published of 250 devices that say the same again and again, and one", got)
		}
	})
}

// What a rule publishes that has no place for the topic is known of another one, which has.
func TestARuleWithoutAPlaceTellsTheOneThatHas(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "full", "239.1.1.1:5000", "t/{source}", onChange),
		fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "t/{source}", onChange),
	}
	remembering(t, rules, func(b *rig, p *published) {
		fill(b.working.Reader(0))
		says(b.working.Reader(1), 250, "x")
		says(b.working.Reader(0), 250, "y")
		says(b.working.Reader(1), 250, "x")
		if got := len(p.take()); got != 750 {
			t.Errorf("%d are published of 250 values, 250 that another rule has changed, and 250 that change them back", got)
		}
	})
}

// A topic that is forgotten while a datagram for it is held back is known again when it goes on.
func TestATopicIsForgottenWhileADatagramIsHeldBack(t *testing.T) {
	loops := guarded
	loops.Delay, loops.Memory = 100*time.Millisecond, 1<<20
	send := []mapping.SendRule{fake.SendRule(t, "out", "t/+", "239.1.1.1:5000")}
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "t/{source}", func(r *mapping.ReceiveRule) { r.OnChange = true })}
	rememberingWith(t, rigOptions{QueueSize: 64 << 10, TopicBytes: places, Loops: loops}, send, rules, func(b *rig, p *published) {
		r := b.working.Reader(0)
		says(r, 1, "x")
		flood(r, enough, "forged") // there is no room to hold many of them back too
		time.Sleep(time.Second)
		if got := p.take(); len(got) != 1 {
			t.Errorf("%q are published, want what was held back", got)
		}
		says(r, 1, "x")
		time.Sleep(time.Second)
		if got := p.take(); len(got) != 0 {
			t.Errorf("%q are published, want nothing: it is known", got)
		}
	})
}

// A reload forgets nothing of topics, and gives back the memory of those of before.
func TestTopicsOfRulesThatGoTakeNoMemoryForEver(t *testing.T) {
	rule := func(name string) []mapping.ReceiveRule {
		return []mapping.ReceiveRule{fake.ReceiveRule(t, name, "239.1.1.1:5000", name+"/{source}", func(r *mapping.ReceiveRule) { r.OnChange = true })}
	}
	remembering(t, rule("0"), func(b *rig, _ *published) {
		for i := range 10 {
			flood(b.working.Reader(0), enough, "x")
			b.reload(t, nil, rule(fmt.Sprint(i+1)))
		}
		if states, bytes := b.receive.Topics(); states > 40_000 || bytes > places {
			t.Errorf("%d topics are known, and take %d bytes", states, bytes)
		}
	})
}

// What is known of senders is bounded, in bytes and of all groups; beyond it they are found
// out again each time, and nothing is lost.
func TestSendersBeyondTheMemoryAreStillHeard(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.0.1-239.1.0.100:5000", "t/{source}/{source_port}")}
	remembering(t, rules, func(b *rig, p *published) {
		for i := range 100 {
			flood(b.working.Reader(i), 2000, "x")
		}
		says(b.working.Reader(99), 200, "x")
		if got := len(p.take()); got != 200 {
			t.Errorf("%d of 200 devices are heard", got)
		}
		if m := b.Status().Receive[0].Remembered; m.SenderBytes > receive.MaxSenderBytes || m.Senders < 10_000 || m.TopicBytes > places {
			t.Errorf("remembered: %+v", m)
		}
		b.reload(t, nil, nil)
		if states, bytes := b.receive.Topics(); bytes != 0 || states > 65_536 {
			t.Errorf("%d topics are known when no rule is left, and take %d bytes", states, bytes)
		}
	})
}

// Nor do made-up senders of one group take the places of those of another.
func TestEachGroupHasPlacesForSenders(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "flooded", "239.1.1.1:5000", "t/{source}/{source_port}"),
		fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "calm/{source}"),
	}
	most := 0 // that are remembered of one group, before it begins anew
	remembering(t, rules, func(b *rig, p *published) {
		for i := 0; ; i++ {
			flood1(b.working.Reader(0), i, "x")
			if i%100 < 99 {
				continue
			}
			n := b.Status().Receive[0].Remembered.Senders
			if n < most {
				break
			}
			most = n
		}
	})
	remembering(t, rules, func(b *rig, p *published) {
		flood(b.working.Reader(0), most, "x")
		says(b.working.Reader(1), 200, "x")
		s := b.Status().Receive
		if s[0].Remembered.Senders != most || s[0].Remembered.SenderBytes < receive.MaxSenderBytes/2 {
			t.Errorf("remembered of the group that is flooded: %+v, before %d: this test is none", s[0].Remembered, most)
		}
		if s[1].Remembered.Senders != 200 {
			t.Errorf("%d of 200 devices of another group are remembered", s[1].Remembered.Senders)
		}
	})
}

// Where nothing asks who sent a datagram, nothing is remembered of senders; and the loop guard
// tells them apart all the same.
func TestSendersThatNobodyAsksForAreNotRemembered(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{group}"),
		fake.ReceiveRule(t, "named", "239.1.1.2:5000", "t", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/30")}
		}),
	}
	remembering(t, rules, func(b *rig, p *published) {
		says(b.working.Reader(0), 200, "x")
		says(b.working.Reader(1), 200, "x")
		got := p.take()
		if n := len(slices.DeleteFunc(got, func(line string) bool { return line != "t/239.1.1.1 x" })); n != 200 {
			t.Errorf("%d of 200 are published", n)
		}
		s := b.Status().Receive
		if s[0].Remembered.Senders != 0 || s[1].Remembered.Senders != 200 || s[1].Filtered["source"] != 197 {
			t.Errorf("remembered: %+v and %+v, %v", s[0].Remembered, s[1].Remembered, s[1].Filtered)
		}
	})
}

// What made-up senders say again does not wait where much does: it is published, and what
// devices say again finds room to wait.
func TestForgedSendersTakeNoRoomOfDevicesThatWait(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t/{source}", fake.Every(time.Hour))}
	rememberingWith(t, rigOptions{QueueSize: 1 << 20}, nil, rules, func(b *rig, p *published) {
		r := b.working.Reader(0)
		says(r, 200, "v1")
		time.Sleep(time.Second)
		says(r, 200, "v2")
		flood(r, 5000, "forged", strings.Repeat("again", 200))
		says(r, 200, strings.Repeat("v3", 500))
		p.take()
		time.Sleep(time.Hour)
		if got := len(p.take()); got != 200 {
			t.Errorf("the last values of %d of 200 devices are published", got)
		}
		if s := b.Status().Receive[0]; s.Drops != nil {
			t.Errorf("lost: %v", s.Drops)
		}
	})
}
