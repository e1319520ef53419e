package receive_test

import (
	"fmt"
	"net/netip"
	"strings"
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

var guarded = loopguard.Options{Guard: true, Memory: 1000, Time: 10 * time.Second, Breaker: 100}

// receiving runs a bridge of receive rules within synctest, and returns what it
// published once all is quiet.
func receiving(t *testing.T, o rigOptions, send []mapping.SendRule, receive []mapping.ReceiveRule, script func(*rig, *fake.Network)) []string {
	t.Helper()
	var out []string
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
		if o.QueueSize == 0 {
			o.QueueSize = 1 << 20
		}
		b := newRig(t, n, o, send, receive)
		script(b, n)
		synctest.Wait()
		out = b.publisher().Published()
	})
	return out
}

func TestDatagramsArePublishedInOrderByEveryRuleThatListens(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a/{source}/{group}"),
		fake.ReceiveRule(t, "b", "239.1.1.1-239.1.1.2:5000", "b/{group}"),
		fake.ReceiveRule(t, "c", "239.1.1.1:5000", "c/{interface}", func(r *mapping.ReceiveRule) { r.Interface = "priv0" }),
	}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
		synctest.Wait()
		n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "3")
		synctest.Wait()
		n.At("239.1.1.1:5000", "priv0").Hear("10.0.0.9:1", "4")
		if open := n.OpenReceivers(); len(open) != 3 {
			t.Errorf("%d sockets, want 3: equal joins share one", len(open))
		}
	})
	want := []string{
		"a/172.17.0.9/239.1.1.1 1", "b/239.1.1.1 1", "a/172.17.0.9/239.1.1.1 2", "b/239.1.1.1 2",
		"b/239.1.1.2 3", "c/priv0 4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRulesOfOneGroupWithDifferentSources(t *testing.T) {
	from := func(texts ...string) func(*mapping.ReceiveRule) {
		return func(r *mapping.ReceiveRule) {
			for _, s := range texts {
				r.Sources = append(r.Sources, netip.MustParsePrefix(s))
			}
		}
	}
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "one", "239.1.1.1:5000", "one", from("172.17.0.9/32", "172.17.0.8/32")),
		fake.ReceiveRule(t, "same", "239.1.1.1:5000", "same", from("172.17.0.8/32", "172.17.0.9/32", "172.17.0.9/32")),
		fake.ReceiveRule(t, "net", "239.1.1.1:5000", "net", from("172.17.1.0/24", "172.17.0.9/32")),
	}
	var counts map[string]uint64
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		open := n.OpenReceivers()
		if len(open) != 2 {
			t.Fatalf("%d sockets, want 2: one for the two addresses, one for the prefix", len(open))
		}
		named := fmt.Sprint(open[0].Options.Sources, open[1].Options.Sources)
		if named != "[172.17.0.8 172.17.0.9] []" {
			t.Errorf("joined from %s", named)
		}
		open[1].Hear("172.17.1.7:1", "in the prefix")
		open[1].Hear("172.17.2.7:1", "in none")
		open[1].Hear("172.17.0.9:1", "named")
		synctest.Wait()
		counts = b.Status().Receive[2].Filtered
	})
	if diff := cmp.Diff([]string{"net in the prefix", "net named"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]uint64{"source": 1}, counts); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsReceivedAndLostIsCounted(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "good", "239.1.1.1:5000", "good", func(r *mapping.ReceiveRule) { r.Encoding = fake.Encoding(t, "hex") }),
		fake.ReceiveRule(t, "small", "239.1.1.1:5000", "small"),
	}
	var status []receive.Status
	var room int64
	receiving(t, rigOptions{QueueSize: 2 * (5 + 4 + account.Overhead)}, nil, rules, func(b *rig, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		r.Hear(fake.Device, "ab") // fills the room: 4 digits, and 2 bytes, each with its topic
		r.Hear(fake.Device, "cd") // finds none left
		synctest.Wait()
		b.working.Rules[0].Published(1, 4+4)
		b.working.Rules[1].Lost(1, 5+2, session.ErrNotConnected)
		r.Drops = 7
		b.receive.CountDrops()
		b.receive.CountDrops()
		status, room = b.Status().Receive, b.budget.Bytes()
	})
	for i, want := range []receive.Status{
		{Received: 2, Published: 1, Drops: map[string]uint64{"queue_full": 1, "receive_buffer": 7}},
		{Received: 2, Drops: map[string]uint64{"queue_full": 1, "receive_buffer": 7, "offline": 1}},
	} {
		got := receive.Status{Received: status[i].Received, Published: status[i].Published, Drops: status[i].Drops}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if first := status[1].FirstDrops["queue_full"]; !strings.Contains(first, "datagram from 172.17.0.9:4000 to 239.1.1.1:5000 on iso0: queue.size") {
		t.Errorf("the first drop is told as %q", first)
	}
	if room != 0 {
		t.Errorf("%d bytes of room are still taken after all was settled", room)
	}
}

func TestKernelDropsAreCountedWhenTheirCounterStartsAgain(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		r := n.LastReceiver()
		r.Drops = 1<<32 - 2
		b.receive.CountDrops()
		r.Drops = 3
		b.receive.CountDrops()
		if got := b.Status().Receive[0].Drops["receive_buffer"]; got != 1<<32+3 {
			t.Errorf("%d drops counted, want %d", got, uint64(1<<32+3))
		}
	})
}

func TestATopicThatCannotBeIsCountedWithItsCause(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a/{interface}", func(r *mapping.ReceiveRule) { r.Interface = "10.0.0.2" })}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		wild := fake.Priv0
		wild.Name = "priv#0"
		n.Set(fake.Iso0, wild)
		b.reconcile(t.Context())
		n.OpenReceivers()[0].Hear(fake.Device, "x")
		synctest.Wait()
		s := b.Status().Receive[0]
		if s.Drops["bad_topic"] != 1 || !strings.Contains(s.FirstDrops["bad_topic"], "priv#0") {
			t.Errorf("drops %v, first %v", s.Drops, s.FirstDrops)
		}
	})
	if len(got) > 0 {
		t.Errorf("published %v", got)
	}
}

func TestOurOwnDatagramsAreNotPublished(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "out", "out", "239.1.1.1:5000")}
	receive := []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "in")}
	got := receiving(t, rigOptions{Loops: loopguard.Options{}}, send, receive, func(b *rig, n *fake.Network) {
		const own = "172.17.0.1:40000"
		b.own.Add(netip.MustParseAddrPort(own))
		r := n.At("239.1.1.1:5000", "iso0")
		r.Hear(own, "ours")
		r.Hear("172.17.0.1:40001", "of another program here")
		synctest.Wait()
		if d := b.Status().Receive[0].Filtered; d["own"] != 1 {
			t.Errorf("drops %v, want 1 own", d)
		}
	})
	if diff := cmp.Diff([]string{"in of another program here"}, got); diff != "" {
		t.Error(diff)
	}
}

// cycle is a pair of rules that feed each other.
func cycle(t *testing.T) ([]mapping.SendRule, []mapping.ReceiveRule) {
	return []mapping.SendRule{fake.SendRule(t, "out", "both", "239.1.1.1:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "both")}
}

func TestOnChangePublishesOnlyWhatIsNew(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) { r.OnChange = true })}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		r := n.LastReceiver()
		r.Hear("172.17.0.9:1", "x", "x", "y", "x", "x")
		r.Hear("172.17.0.9:2", "x")
		synctest.Wait()
		b.working.Rules[0].Lost(1, 1, session.ErrNotConnected)
		r.Hear("172.17.0.9:2", "x") // the last one may not have reached the broker
		synctest.Wait()
		if d := b.Status().Receive[0].Filtered; d["unchanged"] != 2 {
			t.Errorf("drops %v, want 2 unchanged", d)
		}
	})
	if diff := cmp.Diff([]string{"1 x", "1 y", "1 x", "2 x", "2 x"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryPublishesAtMostOneInItsTimeAndTheLatestWins(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) { r.Every = time.Second })}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		r, p := n.LastReceiver(), b.publisher()
		at := func(port, payload string, want ...string) {
			t.Helper()
			r.Hear("172.17.0.9:"+port, payload)
			synctest.Wait()
			if diff := cmp.Diff(want, p.Published()); diff != "" {
				t.Errorf("after %s on %s: %s", payload, port, diff)
			}
		}
		at("1", "first", "1 first")
		at("2", "other", "1 first", "2 other")
		at("1", "second", "1 first", "2 other")
		time.Sleep(999 * time.Millisecond)
		at("1", "third", "1 first", "2 other")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1 first", "2 other", "1 third"}, p.Published()); diff != "" {
			t.Error(diff)
		}
		if d := b.Status().Receive[0].Filtered; d["superseded"] != 1 {
			t.Errorf("drops %v, want 1 superseded", d)
		}
		time.Sleep(5 * time.Second)
		at("1", "fourth", "1 first", "2 other", "1 third", "1 fourth")
		at("1", "fifth", "1 first", "2 other", "1 third", "1 fourth")
		b.working.Rules[0].Flush()
		b.working.Rules[0].Published(4, len("firstotherthirdfourth"))
	})
	if got[len(got)-1] != "1 fifth" {
		t.Errorf("at the end %q is published last, want what waits", got[len(got)-1])
	}
}

func TestWhatWaitsForItsTimeIsBounded(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) {
		r.Every, r.QoS = time.Second, 0
	})}
	receiving(t, rigOptions{QueueSize: 2 * (1 + 1 + account.Overhead)}, nil, rules, func(b *rig, n *fake.Network) {
		for _, payload := range []string{"w", "x", "y"} { // once they are known
			for port := 1; port <= 3; port++ {
				n.LastReceiver().Hear(fmt.Sprintf("172.17.0.9:%d", port), payload)
			}
			if payload == "w" {
				time.Sleep(time.Second)
			}
		}
		synctest.Wait()
		if d := b.Status().Receive[0].Drops; d["queue_full"] != 1 {
			t.Errorf("drops %v, want 1 for which there was no room", d)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.budget.Bytes(); n != 0 {
			t.Errorf("%d bytes still taken when nothing waits", n)
		}
	})
}

func TestTheEnvelopeTellsWhenTheDatagramArrivedNotWhenItWasPublished(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", func(r *mapping.ReceiveRule) {
		r.Every, r.Encoding = time.Second, fake.Encoding(t, "json")
	})}
	var arrived time.Time
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.LastReceiver().Hear(fake.Device, "first")
		time.Sleep(100 * time.Millisecond)
		arrived = time.Now()
		n.LastReceiver().Hear(fake.Device, "second")
		time.Sleep(2 * time.Second)
	})
	if want := arrived.UTC().Format(time.RFC3339Nano); len(got) != 2 || !strings.Contains(got[1], want) {
		t.Errorf("published %q, want %s in the second", got, want)
	}
}

type discard struct{}

func (discard) PublishBatch(batch []session.Publication) {
	for _, p := range batch {
		p.Origin.Published(1, p.Size())
	}
}

// newTestReader is a reader of one rule, and a batch of datagrams for it.
func newTestReader(t testing.TB, change func(*mapping.ReceiveRule)) (receive.Reader, []multicast.Datagram) {
	g, _ := mapping.ParseGroupRange("239.1.1.1:5000")
	to, _ := mapping.ParseTopic("meters/{source}/raw")
	r := mapping.ReceiveRule{Name: "r", Groups: []mapping.GroupRange{g}, Interface: "iso0", Topic: to, QoS: 1}
	change(&r)
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, rigOptions{QueueSize: 1 << 20, Loops: loopguard.Options{Guard: true, Breaker: 1 << 20}}, nil, []mapping.ReceiveRule{r})
	b.watched.End()
	b.receive.PublishTo(discard{})
	batch := make([]multicast.Datagram, multicast.MaxReceive)
	for i := range batch {
		batch[i] = multicast.Datagram{Source: netip.MustParseAddrPort(fake.Device), Payload: make([]byte, 128)}
	}
	return b.working.Reader(0), batch
}

var encodings = []string{"raw", "hex", "base64", "json"}

func TestTheReceivePathDoesNotAllocate(t *testing.T) {
	for _, name := range encodings {
		reader, batch := newTestReader(t, func(r *mapping.ReceiveRule) { r.Encoding = fake.Encoding(t, name) })
		reader.Handle(batch)
		if n := fake.Allocations(func() { reader.Handle(batch) }); n >= 1 {
			t.Errorf("%s: %v allocations for a batch of %d", name, n, len(batch))
		}
	}
}

func BenchmarkHear(b *testing.B) {
	for _, name := range encodings {
		b.Run(name, func(b *testing.B) {
			reader, batch := newTestReader(b, func(r *mapping.ReceiveRule) { r.Encoding, _ = mapping.ParseEncoding(name) })
			for b.Loop() {
				reader.Handle(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/datagram")
		})
	}
}

// Another bridge sends what this one does, for the broker gave it the same message.
func TestWhatThisBridgeSendsTooIsFiltered(t *testing.T) {
	send, receive := cycle(t)
	got := receiving(t, rigOptions{Loops: guarded}, send, receive, func(b *rig, n *fake.Network) {
		b.receive.Guard().Add(loopguard.SentDigest(3, netip.MustParseAddrPort("239.1.1.1:5000"), []byte("ON")), time.Now())
		n.At("239.1.1.1:5000", "iso0").Hear("172.17.0.2:40000", "ON", "ON")
		synctest.Wait()
		if d := b.Status().Receive[0].Filtered; d["loop"] != 1 {
			t.Errorf("filtered %v, want 1 loop", d)
		}
	})
	if diff := cmp.Diff([]string{"both ON"}, got); diff != "" {
		t.Error(diff)
	}
}
