package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

var guarded = Loops{Guard: true, Memory: 1000, Time: 10 * time.Second, Breaker: 100}

// receiving runs a bridge of receive rules within synctest, and returns what it
// published once all is quiet.
func receiving(t *testing.T, o Options, send []mapping.SendRule, receive []mapping.ReceiveRule, script func(*Bridge, *fakeNetwork)) []string {
	t.Helper()
	var out []string
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
		if o.QueueSize == 0 {
			o.QueueSize = 1 << 20
		}
		b := newTestBridgeOf(t, n, o, send, receive)
		script(b, n)
		synctest.Wait()
		out = b.receive.publisher.(*fakePublisher).published()
	})
	return out
}

// at is the open receiver of a group on an interface.
func (n *fakeNetwork) at(group, on string) *fakeReceiver {
	for _, r := range n.open() {
		if r.options.Group.String() == group && r.on == on {
			return r
		}
	}
	return nil
}

const device = "172.17.0.9:4000"

func TestDatagramsArePublishedInOrderByEveryRuleThatListens(t *testing.T) {
	rules := []mapping.ReceiveRule{
		listenRule(t, "a", "239.1.1.1:5000", "a/{source}/{group}"),
		listenRule(t, "b", "239.1.1.1-239.1.1.2:5000", "b/{group}"),
		listenRule(t, "c", "239.1.1.1:5000", "c/{interface}", func(r *mapping.ReceiveRule) { r.Interface = "priv0" }),
	}
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2")
		synctest.Wait()
		n.at("239.1.1.2:5000", "iso0").hear(device, "3")
		synctest.Wait()
		n.at("239.1.1.1:5000", "priv0").hear("10.0.0.9:1", "4")
		if open := n.open(); len(open) != 3 {
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
		listenRule(t, "one", "239.1.1.1:5000", "one", from("172.17.0.9/32", "172.17.0.8/32")),
		listenRule(t, "same", "239.1.1.1:5000", "same", from("172.17.0.8/32", "172.17.0.9/32", "172.17.0.9/32")),
		listenRule(t, "net", "239.1.1.1:5000", "net", from("172.17.1.0/24", "172.17.0.9/32")),
	}
	var counts map[string]uint64
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		open := n.open()
		if len(open) != 2 {
			t.Fatalf("%d sockets, want 2: one for the two addresses, one for the prefix", len(open))
		}
		named := fmt.Sprint(open[0].options.Sources, open[1].options.Sources)
		if named != "[172.17.0.8 172.17.0.9] []" {
			t.Errorf("joined from %s", named)
		}
		open[1].hear("172.17.1.7:1", "in the prefix")
		open[1].hear("172.17.2.7:1", "in none")
		open[1].hear("172.17.0.9:1", "named")
		synctest.Wait()
		counts = b.Status().Receive[2].Drops
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
		listenRule(t, "good", "239.1.1.1:5000", "good", func(r *mapping.ReceiveRule) { r.Encoding = encoding(t, "hex") }),
		listenRule(t, "small", "239.1.1.1:5000", "small"),
	}
	var status []ReceiveStatus
	var room int64
	receiving(t, Options{QueueSize: 2 * (4 + overhead)}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		r := n.at("239.1.1.1:5000", "iso0")
		r.hear(device, "ab") // fills the room: 4 digits, and 2 bytes
		r.hear(device, "cd") // finds none left
		synctest.Wait()
		b.parts().receives[0].Published(1, 4)
		b.parts().receives[1].Lost(1, 2, session.ErrNotConnected)
		r.drops = 7
		for _, m := range b.parts().memberships {
			m.countDrops()
			m.countDrops()
		}
		status, room = b.Status().Receive, b.room.bytes.Load()
	})
	for i, want := range []ReceiveStatus{
		{Received: 2, Published: 1, Drops: map[string]uint64{"queue_full": 1, "receive_buffer": 7}},
		{Received: 2, Drops: map[string]uint64{"queue_full": 1, "receive_buffer": 7, "offline": 1}},
	} {
		got := ReceiveStatus{Received: status[i].Received, Published: status[i].Published, Drops: status[i].Drops}
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
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "a")}
	receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		r, m := n.receiver(), b.parts().memberships[0]
		r.drops = 1<<32 - 2
		m.countDrops()
		r.drops = 3
		m.countDrops()
		if got := b.Status().Receive[0].Drops["receive_buffer"]; got != 1<<32+3 {
			t.Errorf("%d drops counted, want %d", got, 1<<32+3)
		}
	})
}

func TestATopicThatCannotBeIsCountedWithItsCause(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "a/{interface}", func(r *mapping.ReceiveRule) { r.Interface = "10.0.0.2" })}
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		wild := priv0
		wild.Name = "priv#0"
		n.set(iso0, wild)
		b.refresh(t.Context())
		n.open()[0].hear(device, "x")
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

func TestAReceiveRuleFollowsItsInterface(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "a")}
	receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		state := func(what string, want State, reason string, sockets int) {
			t.Helper()
			b.refresh(t.Context())
			s := b.Status().Receive[0]
			if s.State != want || !strings.Contains(s.Reason, reason) || len(n.open()) != sockets {
				t.Errorf("%s: %s (%s) with %d sockets, want %s (%s) with %d", what, s.State, s.Reason, len(n.open()), want, reason, sockets)
			}
		}
		state("at first", StateUp, "", 1)
		first := n.receiver()
		down := iso0
		down.Carrier = false
		n.set(down)
		state("without carrier", StatePending, "no carrier", 1)
		n.set(iso0)
		state("with carrier again", StateUp, "", 1)
		if first != n.receiver() || first.rejoins != 1 {
			t.Errorf("after the carrier came back it joined again %d times, want once on the same socket", first.rejoins)
		}
		b.hearNews(multicast.Change{Returned: []int{4}})
		state("with carrier away too short to be seen elsewhere", StateUp, "", 1)
		b.hearNews(multicast.Change{Returned: []int{3}})
		state("with carrier away too short to be seen", StateUp, "", 1)
		if first.rejoins != 2 {
			t.Errorf("joined again %d times, want once more", first.rejoins)
		}
		down.Up = false
		n.set(down)
		state("down", StatePending, "is down", 1)
		n.set(iso0)
		state("up", StateUp, "", 1)
		n.set(priv0)
		state("gone", StatePending, "iso0", 0)
		again := iso0
		again.Index = 9
		n.set(again)
		state("back under another index", StateUp, "", 1)
		second := n.receiver()
		b.hearNews(multicast.Change{Deleted: []int{8}})
		state("another one deleted", StateUp, "", 1)
		if n.receiver() != second {
			t.Error("joined anew because another interface was deleted")
		}
		b.hearNews(multicast.Change{Deleted: []int{9}})
		state("deleted and back under the same index", StateUp, "", 1)
		if n.receiver() == second {
			t.Error("the socket of an interface that was deleted is still used")
		}
		third := n.receiver()
		b.hearNews(multicast.Change{Overflow: true})
		state("after news were missed", StateUp, "", 1)
		if n.receiver() == third {
			t.Error("the socket is still used though its interface may have been deleted")
		}
		n.set()
		n.listenErr = errors.New("port 5000 is taken")
		n.set(iso0)
		b.hearNews(multicast.Change{Deleted: []int{3, 9}})
		state("port taken", StatePending, "port 5000 is taken", 0)
		n.listenErr = nil
		state("port free", StateUp, "", 1)
	})
}

// Closing a stale socket takes the membership of a fresh one with it, so no
// socket may be opened on an interface before all the stale ones are closed.
func TestAllStaleSocketsAreClosedBeforeOneIsOpened(t *testing.T) {
	rules := []mapping.ReceiveRule{
		listenRule(t, "a", "239.1.1.1:5000", "a"),
		listenRule(t, "b", "239.1.1.1:5000", "b", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.9/32")}
		}),
	}
	receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		stale := n.open()
		n.onListen = func() {
			for _, r := range stale {
				if slices.Contains(n.open(), r) {
					t.Error("a socket is opened while a stale one is open")
				}
			}
		}
		b.hearNews(multicast.Change{Deleted: []int{iso0.Index}})
		b.refresh(t.Context())
		if len(n.open()) != 2 {
			t.Errorf("%d sockets, want 2", len(n.open()))
		}
	})
}

func TestASocketThatFailsIsOpenedAgain(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "a")}
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		first := n.receiver()
		first.failure = errors.New("network is down")
		close(first.in)
		synctest.Wait()
		if s := b.Status().Receive[0]; s.State != StatePending || s.Reason != "network is down" {
			t.Errorf("after a failure: %s (%s)", s.State, s.Reason)
		}
		select {
		case <-b.changed:
		default:
			t.Error("nobody asked for a look at the interfaces")
		}
		b.refresh(t.Context())
		if s := b.Status().Receive[0]; s.State != StateUp || n.receiver() == first {
			t.Errorf("after the next look: %s (%s)", s.State, s.Reason)
		}
		n.receiver().hear(device, "x")
	})
	if diff := cmp.Diff([]string{"a x"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestARangeInPartJoinedIsDegraded(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1-239.1.1.4:5000", "a")}
	receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		n.listenErr = errors.New("no")
		b.parts().memberships[2].ear.fail(errors.New("x"))
		b.refresh(t.Context())
		s := b.Status().Receive[0]
		if s.State != StateDegraded || s.Reason != "1 of 4 groups are not joined: no" || s.Joined != 3 || s.Sockets != 4 {
			t.Errorf("%s (%s), %d of %d joined", s.State, s.Reason, s.Joined, s.Sockets)
		}
	})
}

func TestOurOwnDatagramsAreNotPublished(t *testing.T) {
	send := []mapping.SendRule{rule(t, "out", "out", "239.1.1.1:5000")}
	receive := []mapping.ReceiveRule{listenRule(t, "in", "239.1.1.1:5000", "in")}
	got := receiving(t, Options{Loops: Loops{}}, send, receive, func(b *Bridge, n *fakeNetwork) {
		own := n.socket().LocalAddr().String()
		r := n.at("239.1.1.1:5000", "iso0")
		r.hear(own, "ours")
		r.hear("172.17.0.1:40001", "of another program here")
		synctest.Wait()
		if d := b.Status().Receive[0].Drops; d["own"] != 1 {
			t.Errorf("drops %v, want 1 own", d)
		}
	})
	if diff := cmp.Diff([]string{"in of another program here"}, got); diff != "" {
		t.Error(diff)
	}
}

// cycle is a pair of rules that feed each other.
func cycle(t *testing.T) ([]mapping.SendRule, []mapping.ReceiveRule) {
	return []mapping.SendRule{rule(t, "out", "both", "239.1.1.1:5000")},
		[]mapping.ReceiveRule{listenRule(t, "in", "239.1.1.1:5000", "both")}
}

func TestWhatAnotherBridgeSendsOfTheSameMessageIsNotPublished(t *testing.T) {
	send, receive := cycle(t)
	const other = "172.17.0.3:40000"
	loops := guarded
	loops.Hold = 100 * time.Millisecond
	got := receiving(t, Options{Loops: loops}, send, receive, func(b *Bridge, n *fakeNetwork) {
		r := n.at("239.1.1.1:5000", "iso0")
		b.send.handle([]session.Message{message("both", "ON", 0), message("both", "OFF", 0), message("both", "ON", 0)})
		r.hear(other, "ON", "OFF", "ON")
		r.hear(other, "faster") // the other bridge was
		time.Sleep(50 * time.Millisecond)
		b.send.handle([]session.Message{message("both", "faster", 0)})
		time.Sleep(time.Second)
		synctest.Wait()
		if d := b.Status().Receive[0].Drops; d["loop"] != 4 {
			t.Errorf("drops %v, want 4 of the loop guard", d)
		}
		r.hear(other, "ON") // once more than was sent
		time.Sleep(time.Second)
	})
	if diff := cmp.Diff([]string{"both ON"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatThisBridgePublishedIsNotSentToWhereItCameFrom(t *testing.T) {
	send, receive := cycle(t)
	send = append(send, rule(t, "elsewhere", "both", "239.1.1.2:5000"), rule(t, "priv", "both", "239.1.1.1:5000", onPriv))
	receive = append(receive, listenRule(t, "priv in", "239.1.1.1:5000", "both", func(r *mapping.ReceiveRule) { r.Interface = "priv0" }))
	receiving(t, Options{Loops: guarded}, send, receive, func(b *Bridge, n *fakeNetwork) {
		n.at("239.1.1.1:5000", "iso0").hear(device, "ON", "OFF", "ON")
		synctest.Wait()
		echo := []session.Message{message("both", "ON", 0), message("both", "OFF", 0), message("both", "ON", 0)}
		b.send.handle(echo)
		b.send.handle([]session.Message{message("both", "ON", 0)}) // somebody else's
		sent := make(map[string][]string)
		for _, s := range n.sockets {
			sent[s.src.Interface] = append(sent[s.src.Interface], s.took()...)
		}
		want := map[string][]string{
			"iso0": {"239.1.1.2:5000 ON", "239.1.1.2:5000 OFF", "239.1.1.2:5000 ON",
				"239.1.1.1:5000 ON", "239.1.1.2:5000 ON"},
			"priv0": {"239.1.1.1:5000 ON", "239.1.1.1:5000 OFF", "239.1.1.1:5000 ON", "239.1.1.1:5000 ON"},
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Error(diff)
		}
		if d := b.Status().Rules[0].Drops; d["loop"] != 3 {
			t.Errorf("drops %v, want 3 of the loop guard", d)
		}
	})
}

func TestWithoutTheGuardTheBreakerStopsARuleThatRunsAway(t *testing.T) {
	send, receive := cycle(t)
	receive = append(receive, listenRule(t, "calm", "239.1.1.2:5000", "calm"))
	var published, dropped int
	got := receiving(t, Options{Loops: Loops{Breaker: 100}}, send, receive, func(b *Bridge, n *fakeNetwork) {
		r := n.at("239.1.1.1:5000", "iso0")
		for range 1000 {
			r.hear(device, "again")
			time.Sleep(5 * time.Millisecond)
		}
		n.at("239.1.1.2:5000", "iso0").hear(device, "calm")
		synctest.Wait()
		s := b.Status().Receive
		published, dropped = len(b.receive.publisher.(*fakePublisher).published())-1, int(s[0].Drops["breaker"])
		if s[0].State != StateDegraded || !strings.Contains(s[0].Reason, "ran away") {
			t.Errorf("%s (%s)", s[0].State, s[0].Reason)
		}
		if s[1].State != StateUp {
			t.Errorf("another rule is %s (%s)", s[1].State, s[1].Reason)
		}
		time.Sleep(minRest)
		r.hear(device, "later")
		synctest.Wait()
		if s := b.Status().Receive[0]; s.State != StateUp {
			t.Errorf("after its rest the rule is %s (%s)", s.State, s.Reason)
		}
	})
	if published < 400 || published > 600 || published+dropped != 1000 || got[len(got)-1] != "both later" {
		t.Errorf("of 1000 over five seconds %d were published and %d dropped, and the last is %q; want it stopped in the third second", published, dropped, got[len(got)-1])
	}
}

func TestOnChangePublishesOnlyWhatIsNew(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) { r.OnChange = true })}
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		r := n.receiver()
		r.hear("172.17.0.9:1", "x", "x", "y", "x", "x")
		r.hear("172.17.0.9:2", "x")
		synctest.Wait()
		b.parts().receives[0].Lost(1, 1, session.ErrNotConnected)
		r.hear("172.17.0.9:2", "x") // the last one may not have reached the broker
		synctest.Wait()
		if d := b.Status().Receive[0].Drops; d["unchanged"] != 2 {
			t.Errorf("drops %v, want 2 unchanged", d)
		}
	})
	if diff := cmp.Diff([]string{"1 x", "1 y", "1 x", "2 x", "2 x"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryPublishesAtMostOneInItsTimeAndTheLatestWins(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) { r.Every = time.Second })}
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		r, p := n.receiver(), b.receive.publisher.(*fakePublisher)
		at := func(port, payload string, want ...string) {
			t.Helper()
			r.hear("172.17.0.9:"+port, payload)
			synctest.Wait()
			if diff := cmp.Diff(want, p.published()); diff != "" {
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
		if diff := cmp.Diff([]string{"1 first", "2 other", "1 third"}, p.published()); diff != "" {
			t.Error(diff)
		}
		if d := b.Status().Receive[0].Drops; d["superseded"] != 1 {
			t.Errorf("drops %v, want 1 superseded", d)
		}
		time.Sleep(5 * time.Second)
		at("1", "fourth", "1 first", "2 other", "1 third", "1 fourth")
		at("1", "fifth", "1 first", "2 other", "1 third", "1 fourth")
		b.parts().receives[0].flush()
		b.parts().receives[0].Published(4, len("firstotherthirdfourth"))
	})
	if got[len(got)-1] != "1 fifth" {
		t.Errorf("at the end %q is published last, want what waits", got[len(got)-1])
	}
}

func TestWhatWaitsForItsTimeIsBounded(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "{source_port}", func(r *mapping.ReceiveRule) {
		r.Every, r.QoS = time.Second, 0
	})}
	receiving(t, Options{QueueSize: 2 * (1 + overhead)}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		for port := 1; port <= 3; port++ {
			n.receiver().hear(fmt.Sprintf("172.17.0.9:%d", port), "x", "y")
		}
		synctest.Wait()
		if d := b.Status().Receive[0].Drops; d["queue_full"] != 1 {
			t.Errorf("drops %v, want 1 for which there was no room", d)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := b.room.bytes.Load(); n != 0 {
			t.Errorf("%d bytes still taken when nothing waits", n)
		}
	})
}

func TestTheEnvelopeTellsWhenTheDatagramArrivedNotWhenItWasPublished(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "a", func(r *mapping.ReceiveRule) {
		r.Every, r.Encoding = time.Second, encoding(t, "json")
	})}
	var arrived time.Time
	got := receiving(t, Options{}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		n.receiver().hear(device, "first")
		time.Sleep(100 * time.Millisecond)
		arrived = time.Now()
		n.receiver().hear(device, "second")
		time.Sleep(2 * time.Second)
	})
	if want := arrived.UTC().Format(time.RFC3339Nano); len(got) != 2 || !strings.Contains(got[1], want) {
		t.Errorf("published %q, want %s in the second", got, want)
	}
}

// Neither senders that take a new port each time nor topics without end cost
// memory without end.
func TestSendersAndTopicsRememberedAreBounded(t *testing.T) {
	rules := []mapping.ReceiveRule{listenRule(t, "a", "239.1.1.1:5000", "{source}/{source_port}")}
	receiving(t, Options{QueueSize: 1 << 30}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		e := b.parts().memberships[0].ear
		for i := range maxOutlets + 10 {
			a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), 1})
			e.remote(netip.AddrPortFrom(a, uint16(i)))
		}
		if len(e.remotes) > maxRemotes || len(b.parts().receives[0].outlets) > maxOutlets {
			t.Errorf("%d senders and %d topics are remembered", len(e.remotes), len(b.parts().receives[0].outlets))
		}
		if got := b.receive.topics.Load(); int(got) != len(b.parts().receives[0].outlets) {
			t.Errorf("%d topics are counted, and there are %d", got, len(b.parts().receives[0].outlets))
		}
	})
}

func encoding(t *testing.T, name string) mapping.Encoding {
	t.Helper()
	e, err := mapping.ParseEncoding(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

type discard struct{}

func (discard) PublishBatch(batch []session.Publication) {
	for _, p := range batch {
		p.Origin.Published(1, len(p.Payload))
	}
}

// newTestEar is an ear of one rule, and a batch of datagrams for it.
func newTestEar(t testing.TB, change func(*mapping.ReceiveRule)) (*ear, []multicast.Datagram) {
	g, _ := mapping.ParseGroupRange("239.1.1.1:5000")
	to, _ := mapping.ParseTopic("meters/{source}/raw")
	r := mapping.ReceiveRule{Name: "r", Groups: []mapping.GroupRange{g}, Interface: "iso0", Topic: to, QoS: 1}
	change(&r)
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: 1 << 20, Loops: Loops{Guard: true, Breaker: 1 << 20}}, nil, []mapping.ReceiveRule{r})
	b.receive.publisher = discard{}
	batch := make([]multicast.Datagram, multicast.MaxReceive)
	for i := range batch {
		batch[i] = multicast.Datagram{Source: netip.MustParseAddrPort(device), Payload: payload128}
	}
	return b.parts().memberships[0].ear, batch
}

var encodings = []string{"raw", "hex", "base64", "json"}

func TestTheReceivePathDoesNotAllocate(t *testing.T) {
	for _, name := range encodings {
		e, batch := newTestEar(t, func(r *mapping.ReceiveRule) { r.Encoding = encoding(t, name) })
		e.hear(batch)
		if n := testing.AllocsPerRun(100, func() { e.hear(batch) }); n >= 1 {
			t.Errorf("%s: %v allocations for a batch of %d", name, n, len(batch))
		}
	}
}

func BenchmarkHear(b *testing.B) {
	for _, name := range encodings {
		b.Run(name, func(b *testing.B) {
			e, batch := newTestEar(b, func(r *mapping.ReceiveRule) { r.Encoding, _ = mapping.ParseEncoding(name) })
			for b.Loop() {
				e.hear(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/datagram")
		})
	}
}

func TestAReceiveRuleTellsOnceOfEachChangeOfItsState(t *testing.T) {
	var log bytes.Buffer
	o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	rules := []mapping.ReceiveRule{listenRule(t, "many", "239.1.1.1-239.1.1.3:5000", "a")}
	receiving(t, o, nil, rules, func(b *Bridge, n *fakeNetwork) {
		b.refresh(t.Context())
		n.set()
		b.refresh(t.Context())
		b.refresh(t.Context())
		n.set(iso0)
		b.refresh(t.Context())
	})
	var told []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "rule=many") {
			_, line, _ = strings.Cut(line, "msg=")
			told = append(told, strings.TrimSpace(line))
		}
	}
	want := []string{
		`receiving rule=many interface=iso0 joined=3 buffer=4096`,
		`"receive rule pending; it goes on by itself when it can" rule=many interface=iso0 joined=0 groups=3 err="there is no interface iso0`,
		`receiving rule=many interface=iso0 joined=3 buffer=4096`,
	}
	if len(told) != len(want) {
		t.Fatalf("told:\n%s", strings.Join(told, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(told[i], want[i]) {
			t.Errorf("told %s\nwant %s", told[i], want[i])
		}
	}
}
