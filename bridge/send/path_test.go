package send_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/bridge/tap"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestEveryMatchingRuleSendsOnceAndMessagesKeepTheirOrderWithinAGroup(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "lamps", "lamp/{id}", "239.1.1.{id}:5000"),
		fake.SendRule(t, "all", "lamp/#", "239.9.9.9:5000", fake.OnPriv))
	b.send.Handle([]session.Message{fake.Message("lamp/1", "a", 0), fake.Message("lamp/2", "b", 1), fake.Message("lamp/1", "c", 1), fake.Message("lamp/2", "d", 0)})

	want := map[string][]string{
		"172.17.0.1": {"239.1.1.1:5000 a", "239.1.1.1:5000 c", "239.1.1.2:5000 b", "239.1.1.2:5000 d"},
		"10.0.0.2":   {"239.9.9.9:5000 a", "239.9.9.9:5000 b", "239.9.9.9:5000 c", "239.9.9.9:5000 d"},
	}
	for _, s := range n.Sockets {
		if diff := cmp.Diff(want[s.Src.Addr.String()], s.Took()); diff != "" {
			t.Errorf("from %s (-want +got):\n%s", s.Src.Addr, diff)
		}
		if s.Calls != 1 {
			t.Errorf("a batch took %d calls, want 1", s.Calls)
		}
	}
}

func TestHostsCostThemselvesAndBroadcastIsForThoseThatNameIt(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	one, all := fake.SendRule(t, "one", "one/{id}", "239.1.1.{id}:5000", fake.ToHost(t, "172.17.1.{id}:5000")), fake.SendRule(t, "all", "all", "239.1.1.1:5000", fake.ToHost(t, "172.17.255.255:5000"))
	b := newRig(t, n, fake.Plenty, one, all)
	n.LastSocket().Reject = map[string]error{"away": multicast.ErrUnreachable, "broadcast": multicast.ErrBadHost}
	b.send.Handle([]session.Message{
		fake.Message("one/1", "a", 1), fake.Message("one/2", "away", 1), fake.Message("one/300", "b", 1), fake.Message("one/255", "broadcast", 0),
		fake.Message("all", "c", 1), fake.Message("one/2", "d", 1),
	})
	if len(n.Sockets) != 1 {
		t.Errorf("%d sockets for one binding", len(n.Sockets))
	}
	if diff := cmp.Diff([]string{"172.17.1.1:5000 a", "172.17.1.2:5000 d", "172.17.255.255:5000 c broadcast"}, sorted(n.LastSocket().Took(), "172")); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s := b.Status()
	for i, want := range []map[string]uint64{{"bad_host": 2, "unreachable": 1}, nil} {
		if diff := cmp.Diff(want, s.Rules[i].Drops); diff != "" {
			t.Errorf("drops of %s (-want +got):\n%s", s.Rules[i].Name, diff)
		}
	}
	if r := s.Rules[0]; r.Group != "" || r.Host != "172.17.1.{id}:5000" {
		t.Errorf("the status says group %q and host %q", r.Group, r.Host)
	}
}

func TestWhatIsLostIsCountedWithRuleAndReasonAndTheRestGoesOn(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	hex := func(r *mapping.SendRule) { r.Payload, _ = mapping.ParsePayload("hex") }
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "octet", "octet/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "hex", "hex", "239.2.2.2:5000", hex))
	n.LastSocket().Reject = map[string]error{"too long": multicast.ErrTooLong, "forbidden": fmt.Errorf("send: %w", syscall.EPERM), "odd": syscall.EINVAL}
	oversize := fake.Message("octet/1", "", 1)
	oversize.Oversize, oversize.Size = true, 1<<20
	batch := []session.Message{
		fake.Message("octet/300", "x", 1), fake.Message("hex", "4g", 1), fake.Message("nowhere", "x", 1), oversize,
		fake.Message("octet/1", "too long", 1), fake.Message("octet/1", "forbidden", 1), fake.Message("octet/1", "odd", 1),
		fake.Message("octet/1", "last", 1), fake.Message("hex", "41 42", 1), fake.Message("nowhere", "y", 1),
	}
	b.send.Handle(batch)

	if diff := cmp.Diff([]string{"239.2.2.2:5000 AB", "239.1.1.1:5000 last"}, sorted(n.LastSocket().Took(), "239.2")); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for i, m := range batch {
		if m.Hold {
			t.Errorf("message %d is held: what can never leave would keep the broker from going on", i)
		}
	}
	s := b.Status()
	want := []map[string]uint64{
		{"bad_group": 1, "oversize": 2, "firewall": 1, "refused": 1},
		{"bad_payload": 1},
	}
	for i, r := range s.Rules {
		if diff := cmp.Diff(want[i], r.Drops); diff != "" {
			t.Errorf("drops of %s (-want +got):\n%s", r.Name, diff)
		}
		if r.Sent != 1 {
			t.Errorf("%s counts %d datagrams, want 1", r.Name, r.Sent)
		}
	}
	if got := s.Rules[1].FirstDrops["bad_payload"]; !strings.HasPrefix(got, "topic hex: ") {
		t.Errorf("the first bad payload is told as %q", got)
	}
	if s.NoRule != 2 {
		t.Errorf("%d messages without a rule, want 2", s.NoRule)
	}
	if s.Rules[0].Received != 6 || s.Rules[0].SentBytes != 4 || s.Rules[1].SentBytes != 2 {
		t.Errorf("counters are wrong: %+v", s.Rules)
	}
}

// sorted puts lines with the prefix first, and keeps the order otherwise.
func sorted(lines []string, prefix string) []string {
	slices.SortStableFunc(lines, func(a, b string) int {
		switch pa, pb := strings.HasPrefix(a, prefix), strings.HasPrefix(b, prefix); {
		case pa == pb:
			return 0
		case pa:
			return -1
		default:
			return 1
		}
	})
	return lines
}

func TestRetainedMessagesFollowTheRulesPolicy(t *testing.T) {
	retained := func(payload string) session.Message {
		m := fake.Message("t", payload, 1)
		m.Retain = true
		return m
	}
	live := func(payload string) session.Message { return fake.Message("t", payload, 1) }
	sequence := []session.Message{retained("on"), retained("on"), live("off"), live("off"), retained("off"), retained("on"), live("on")}
	for _, test := range []struct {
		policy mapping.Retained
		want   string
	}{
		{mapping.RetainedOnce, "on off off on on"},
		{mapping.RetainedAlways, "on on off off off on on"},
		{mapping.RetainedNever, "off off on"},
	} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Retained = test.policy }))
		for _, m := range sequence { // one a batch, as reconnects bring them
			b.send.Handle([]session.Message{m})
		}
		var got []string
		for _, line := range n.LastSocket().Took() {
			_, payload, _ := strings.Cut(line, " ")
			got = append(got, payload)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("policy %v sent %q, want %q", test.policy, got, test.want)
		}
		if want := uint64(len(sequence) - len(got)); b.Status().Rules[0].Filtered["retained"] != want {
			t.Errorf("policy %v counts %v, want %d retained", test.policy, b.Status().Rules[0].Drops, want)
		}
	}
}

func TestARetainedMessageThatCouldNotBeSentIsNotTakenForSent(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	n.LastSocket().Reject = map[string]error{"on": syscall.EPERM}
	m := fake.Message("t", "on", 1)
	m.Retain = true
	b.send.Handle([]session.Message{m})
	n.LastSocket().Reject = nil
	b.send.Handle([]session.Message{m})
	if got := n.LastSocket().Took(); len(got) != 1 {
		t.Errorf("sent %q, want it once, now that it can be", got)
	}
}

func TestADatagramThatWouldBlockWaitsInOrderAndHoldsItsAcknowledgement(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "slow", "slow", "239.1.1.1:5000"), fake.SendRule(t, "well", "well", "239.2.2.2:5000", fake.OnPriv))
	slow, well := n.Sockets[0], n.Sockets[1]
	if slow.Src.Interface != "iso0" {
		slow, well = well, slow
	}
	slow.Allow(1, nil)
	<-slow.Free // nobody waits yet
	first := []session.Message{fake.Message("slow", "1", 1), fake.Message("slow", "2", 1), fake.Message("well", "3", 1), fake.Message("slow", "4", 0)}
	b.send.Handle(first)
	a := b.acks()
	if got := []bool{first[0].Hold, first[1].Hold, first[2].Hold, first[3].Hold}; !slices.Equal(got, []bool{false, true, false, false}) {
		t.Fatalf("held: %v, want only the QoS 1 message that waits", got)
	}
	if got := well.Took(); len(got) != 1 {
		t.Fatalf("the other binding sent %q: one trouble must stay one trouble", got)
	}
	fake.WaitFor(t, "the queue has tried the socket in vain", func() bool {
		slow.Mu.Lock()
		defer slow.Mu.Unlock()
		return slow.Calls == 2
	})
	// What comes later queues behind, although the socket has room again by then.
	slow.Mu.Lock()
	slow.Room = 1
	slow.Mu.Unlock()
	for _, m := range first { // the batch's memory is the session's again
		copy(m.Payload, "?????")
	}
	second := []session.Message{fake.Message("slow", "5", 1)}
	b.send.Handle(second)
	a.more(b)
	if got := b.Status().Queue; got.Messages != 3 || got.Bytes != 3*send.SizeOf("slow", 1) {
		t.Fatalf("queue is %+v, want three datagrams", got)
	}
	slow.Allow(10, nil)
	if diff := cmp.Diff([]string{"2", "5"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 4", "239.1.1.1:5000 5"}, slow.Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := b.Status(); got.Queue.Messages != 0 || got.Queue.Bytes != 0 || got.Rules[0].Sent != 4 {
		t.Errorf("afterwards: queue %+v, %d sent", got.Queue, got.Rules[0].Sent)
	}
}

func TestAMessageToSeveralBindingsIsAcknowledgedAfterTheLast(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "a", "t", "239.1.1.1:5000"), fake.SendRule(t, "b", "t", "239.2.2.2:5000", fake.OnPriv))
	for _, s := range n.Sockets {
		s.Allow(0, nil)
		<-s.Free
	}
	batch := []session.Message{fake.Message("t", "x", 1)}
	b.send.Handle(batch)
	if !batch[0].Hold {
		t.Fatal("not held, although it waits twice")
	}
	a := b.acks()
	n.Sockets[0].Allow(1, nil)
	fake.WaitFor(t, "the first to be sent", func() bool { return len(n.Sockets[0].Took()) == 1 })
	if len(a.list()) != 0 {
		t.Fatal("acknowledged after the first of two")
	}
	n.Sockets[1].Allow(1, nil)
	a.wait(1)
}

func TestAFullQueueDropsTheOldestQoS0AndKeepsWhatIsToBeAcknowledged(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, 3*send.SizeOf("t", 1), fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	batch := []session.Message{fake.Message("t", "1", 0), fake.Message("t", "2", 0), fake.Message("t", "3", 1), fake.Message("t", "4", 0), fake.Message("t", "5", 0), fake.Message("t", "6", 0), fake.Message("t", "7", 1)}
	b.send.Handle(batch)
	// 4 and 5 push out 1 and 2; 6 finds a QoS 1 message in front, and goes itself; 7 is left to the broker.
	n.LastSocket().Allow(100, nil)
	fake.WaitFor(t, "what waited", func() bool { return b.Status().Queue.Messages == 0 })
	if diff := cmp.Diff([]string{"3", "4", "5"}, fake.Payloads(n.LastSocket().Took())); diff != "" {
		t.Errorf("waited (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0].Drops["queue_full"]; got != 3 {
		t.Errorf("%d drops counted, want 3", got)
	}
	if !batch[2].Hold || !batch[6].Hold {
		t.Error("3 and 7 are to be held")
	}
}

func TestTheSendPathDoesNotAllocate(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{fake.SendRule(t, "r", "t/{n}", "239.1.1.1:{n}")}, nil)
	batch := make([]session.Message, 64)
	for i := range batch {
		batch[i] = session.Message{Topic: fmt.Append(nil, "t/", 1+i%7), Payload: bytes.Repeat([]byte{byte(i)}, 128), QoS: 1}
	}
	if got := fake.Allocations(func() { b.send.Handle(batch) }); got != 0 {
		t.Errorf("%v allocations for a batch of %d", got, len(batch))
	}
	if n.LastSocket().Asked == 0 {
		t.Error("nobody asked for the carrier")
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, topics := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint("topics=", topics), func(b *testing.B) {
			n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
			br := newRigOf(b, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{benchRule()}, nil)
			batch := make([]session.Message, 512)
			i := 0
			for b.Loop() {
				for j := range batch {
					batch[j] = session.Message{Topic: fmt.Appendf(batch[j].Topic[:0], "t/%d", 1+i%topics), Payload: payload128, QoS: 1}
					i++
				}
				br.send.Handle(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/message")
		})
	}
}

// What one who watches costs the way of a message; compare with BenchmarkHandle/topics=100.
func BenchmarkHandleWatched(b *testing.B) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	br := newRigOf(b, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{benchRule()}, nil)
	w, err := br.watched.Tap.Watch(tap.Filter{Payload: 64})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	at, end := context.WithCancel(b.Context())
	end() // Next waits for nothing
	batch := make([]session.Message, 512)
	i := 0
	for b.Loop() {
		for j := range batch {
			batch[j] = session.Message{Topic: fmt.Appendf(batch[j].Topic[:0], "t/%d", 1+i%100), Payload: payload128, QoS: 1}
			i++
		}
		br.send.Handle(batch)
		if i%8192 == 0 {
			w.Next(at)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/message")
}

func TestDebugLogsEachDatagramAndInfoNone(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 0} {
		var out bytes.Buffer
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))
		b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Logger: log}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
		n.LastSocket().Allow(2, fmt.Errorf("gone: %w", multicast.ErrPending))
		b.send.Handle([]session.Message{fake.Message("t", "abc", 1), fake.Message("t", "d", 1), fake.Message("t", "e", 1)})
		if got := strings.Count(out.String(), "rule=r topic=t group=239.1.1.1:5000 source=172.17.0.1:40000 interface=iso0"); got != want {
			t.Errorf("at %v: %d lines, want %d:\n%s", level, got, want, &out)
		}
	}
}

func TestWhatIsRefusedAfterItWaitedIsNotCountedAsSent(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	s := n.LastSocket()
	s.Allow(0, nil)
	<-s.Free
	b.send.Handle([]session.Message{fake.Message("t", "forbidden", 1), fake.Message("t", "good", 1)})
	a := b.acks()
	s.Mu.Lock()
	s.Reject = map[string]error{"forbidden": syscall.EPERM}
	s.Mu.Unlock()
	s.Allow(5, nil)
	if diff := cmp.Diff([]string{"forbidden", "good"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0]; got.Sent != 1 || got.Drops["firewall"] != 1 {
		t.Errorf("%d sent, drops %v", got.Sent, got.Drops)
	}
}

func TestARetainedMessageThatWaitsIsNotTakenForSent(t *testing.T) {
	n := &fake.Network{}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	m := fake.Message("t", "on", 1)
	m.Retain = true
	// The broker repeats it after a reconnect; were that one acknowledged, and
	// this process to die, nobody would have it.
	for range 2 {
		batch := []session.Message{m}
		b.send.Handle(batch)
		if !batch[0].Hold {
			t.Fatal("acknowledged, though it was never sent")
		}
	}
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "both to leave", func() bool { return len(n.LastSocket().Took()) == 2 && b.Status().Queue.Messages == 0 })
	b.send.Handle([]session.Message{m})
	if got := b.Status().Rules[0]; got.Sent != 2 || got.Filtered["retained"] != 1 {
		t.Errorf("%d sent, drops %v; want the one after that held back", got.Sent, got.Drops)
	}
}

func TestARetainedMessageTwiceInABatchIsSentOnce(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	m := fake.Message("t", "on", 1)
	m.Retain = true
	b.send.Handle([]session.Message{m, m})
	if got := n.LastSocket().Took(); len(got) != 1 {
		t.Errorf("sent %q", got)
	}
}

// The broker hands back what a receive rule has made of a datagram of the same group.
func TestAMessageThatWasADatagramOfItsGroupIsFiltered(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "out", "both", "239.1.1.1:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "both")})
	b.guard.Add(loopguard.PublishedDigest(3, netip.MustParseAddrPort("239.1.1.1:5000"), []byte("both"), []byte("ON")), time.Now())
	b.send.Handle([]session.Message{fake.Message("both", "ON", 1), fake.Message("both", "ON", 1)})
	if got, want := n.LastSocket().Took(), []string{"239.1.1.1:5000 ON"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if got := b.Status().Rules[0].Filtered["loop"]; got != 1 {
		t.Errorf("%d filtered, want 1", got)
	}
}

// A drain that waits for its socket is waited for; and none begins once the binding has
// stopped, though the spool tells at any time that a message is safe, and so that there is
// something to be sent.
func TestTheEndWaitsForTheDrainsAndNoneBeginsAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "a", "239.1.1.1:5000"))
		release := make(chan struct{})
		s := n.LastSocket()
		s.OnWait = func() { <-release }
		s.Allow(0, nil)
		<-s.Free
		b.send.Handle([]session.Message{fake.Message("a", "1", 1)})
		synctest.Wait()
		if !b.send.Stop(t.Context()) {
			t.Error("the socket is not closed")
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.drains.Wait()
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("the end is over, and a drain is at work")
		default:
		}
		close(release)
		<-ended
		if b.send.Wakes() {
			t.Error("a drain has begun after the end")
		}
	})
}

// blackHole takes all, and keeps nothing.
func blackHole(s *fake.Socket) send.Sender { return fake.BlackHole{Socket: s} }

var payload128 = make([]byte, 128)

// benchRule is rule without a test to fail.
func benchRule() mapping.SendRule {
	f, _ := mapping.ParseFilter("t/{n}")
	g, _ := mapping.ParseGroup("239.{n>>16&255}.{n>>8&255}.{n&255}:5000")
	p, _ := mapping.ParsePayload("raw")
	return mapping.SendRule{Name: "r", Filter: f, Group: g, Payload: p, Binding: mapping.Binding{
		Interface: "iso0", Source: netip.MustParsePrefix("172.17.0.1/32"), TTL: 1}}
}
