package bridge

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

const plenty = 1 << 20

func message(topic, payload string, qos byte) session.Message {
	return session.Message{Topic: []byte(topic), Payload: []byte(payload), Size: len(payload), QoS: qos}
}

// acked stands in for a session's acknowledgements.
type acked struct {
	mu   sync.Mutex
	done []string
	some chan struct{}
}

func newAcked() *acked { return &acked{some: make(chan struct{}, 1000)} }

type ackOf struct {
	a    *acked
	name string
}

func (k ackOf) Done() {
	k.a.mu.Lock()
	k.a.done = append(k.a.done, k.name)
	k.a.mu.Unlock()
	k.a.some <- struct{}{}
}

// watch has a told when the messages that wait in b are acknowledged.
func (a *acked) watch(b *binding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.queue.front() {
		if w.holding != nil {
			w.holding.ack = ackOf{a, string(w.payload)}
		}
	}
}

func (a *acked) wait(n int) []string {
	for range n {
		<-a.some
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.done)
}

func TestEveryMatchingRuleSendsOnceAndMessagesKeepTheirOrderWithinAGroup(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	b := newTestBridge(t, n, plenty,
		rule(t, "lamps", "lamp/{id}", "239.1.1.{id}:5000"),
		rule(t, "all", "lamp/#", "239.9.9.9:5000", onPriv))
	b.send.handle([]session.Message{message("lamp/1", "a", 0), message("lamp/2", "b", 1), message("lamp/1", "c", 1), message("lamp/2", "d", 0)})

	want := map[string][]string{
		"172.17.0.1": {"239.1.1.1:5000 a", "239.1.1.1:5000 c", "239.1.1.2:5000 b", "239.1.1.2:5000 d"},
		"10.0.0.2":   {"239.9.9.9:5000 a", "239.9.9.9:5000 b", "239.9.9.9:5000 c", "239.9.9.9:5000 d"},
	}
	for _, s := range n.sockets {
		if diff := cmp.Diff(want[s.src.Addr.String()], s.took()); diff != "" {
			t.Errorf("from %s (-want +got):\n%s", s.src.Addr, diff)
		}
		if s.calls != 1 {
			t.Errorf("a batch took %d calls, want 1", s.calls)
		}
	}
}

func TestWhatIsLostIsCountedWithRuleAndReasonAndTheRestGoesOn(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	hex := func(r *mapping.SendRule) { r.Payload, _ = mapping.ParsePayload("hex") }
	b := newTestBridge(t, n, plenty, rule(t, "octet", "octet/{id}", "239.1.1.{id}:5000"), rule(t, "hex", "hex", "239.2.2.2:5000", hex))
	n.socket().reject = map[string]error{"too long": multicast.ErrTooLong, "forbidden": fmt.Errorf("send: %w", syscall.EPERM), "odd": syscall.EINVAL}
	oversize := message("octet/1", "", 1)
	oversize.Oversize, oversize.Size = true, 1<<20
	batch := []session.Message{
		message("octet/300", "x", 1), message("hex", "4g", 1), message("nowhere", "x", 1), oversize,
		message("octet/1", "too long", 1), message("octet/1", "forbidden", 1), message("octet/1", "odd", 1),
		message("octet/1", "last", 1), message("hex", "41 42", 1), message("nowhere", "y", 1),
	}
	b.send.handle(batch)

	if diff := cmp.Diff([]string{"239.2.2.2:5000 AB", "239.1.1.1:5000 last"}, sorted(n.socket().took(), "239.2")); diff != "" {
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
		m := message("t", payload, 1)
		m.Retain = true
		return m
	}
	live := func(payload string) session.Message { return message("t", payload, 1) }
	sequence := []session.Message{retained("on"), retained("on"), live("off"), live("off"), retained("off"), retained("on"), live("on")}
	for _, test := range []struct {
		policy mapping.Retained
		want   string
	}{
		{mapping.RetainedOnce, "on off off on on"},
		{mapping.RetainedAlways, "on on off off off on on"},
		{mapping.RetainedNever, "off off on"},
	} {
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Retained = test.policy }))
		for _, m := range sequence { // one a batch, as reconnects bring them
			b.send.handle([]session.Message{m})
		}
		var got []string
		for _, line := range n.socket().took() {
			_, payload, _ := strings.Cut(line, " ")
			got = append(got, payload)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("policy %v sent %q, want %q", test.policy, got, test.want)
		}
		if want := uint64(len(sequence) - len(got)); b.Status().Rules[0].Drops["retained"] != want {
			t.Errorf("policy %v counts %v, want %d retained", test.policy, b.Status().Rules[0].Drops, want)
		}
	}
}

func TestARetainedMessageThatCouldNotBeSentIsNotTakenForSent(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	n.socket().reject = map[string]error{"on": syscall.EPERM}
	m := message("t", "on", 1)
	m.Retain = true
	b.send.handle([]session.Message{m})
	n.socket().reject = nil
	b.send.handle([]session.Message{m})
	if got := n.socket().took(); len(got) != 1 {
		t.Errorf("sent %q, want it once, now that it can be", got)
	}
}

func TestADatagramThatWouldBlockWaitsInOrderAndHoldsItsAcknowledgement(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	b := newTestBridge(t, n, plenty, rule(t, "slow", "slow", "239.1.1.1:5000"), rule(t, "well", "well", "239.2.2.2:5000", onPriv))
	slow, well := n.sockets[0], n.sockets[1]
	if slow.src.Interface != "iso0" {
		slow, well = well, slow
	}
	slow.allow(1, nil)
	<-slow.free // nobody waits yet
	first := []session.Message{message("slow", "1", 1), message("slow", "2", 1), message("well", "3", 1), message("slow", "4", 0)}
	b.send.handle(first)
	a := newAcked()
	a.watch(b.parts().sends[0].binding)
	if got := []bool{first[0].Hold, first[1].Hold, first[2].Hold, first[3].Hold}; !slices.Equal(got, []bool{false, true, false, false}) {
		t.Fatalf("held: %v, want only the QoS 1 message that waits", got)
	}
	if got := well.took(); len(got) != 1 {
		t.Fatalf("the other binding sent %q: one trouble must stay one trouble", got)
	}
	waitFor(t, "the queue has tried the socket in vain", func() bool {
		slow.mu.Lock()
		defer slow.mu.Unlock()
		return slow.calls == 2
	})
	// What comes later queues behind, although the socket has room again by then.
	slow.mu.Lock()
	slow.cap = 1
	slow.mu.Unlock()
	for _, m := range first { // the batch's memory is the session's again
		copy(m.Payload, "?????")
	}
	second := []session.Message{message("slow", "5", 1)}
	b.send.handle(second)
	a.watch(b.parts().sends[0].binding)
	if got := b.Status().Queue; got.Messages != 3 || got.Bytes != 3*(overhead+1) {
		t.Fatalf("queue is %+v, want three datagrams", got)
	}
	slow.allow(10, nil)
	if diff := cmp.Diff([]string{"2", "5"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 2", "239.1.1.1:5000 4", "239.1.1.1:5000 5"}, slow.took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := b.Status(); got.Queue.Messages != 0 || got.Queue.Bytes != 0 || got.Rules[0].Sent != 4 {
		t.Errorf("afterwards: queue %+v, %d sent", got.Queue, got.Rules[0].Sent)
	}
}

func TestAMessageToSeveralBindingsIsAcknowledgedAfterTheLast(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	b := newTestBridge(t, n, plenty, rule(t, "a", "t", "239.1.1.1:5000"), rule(t, "b", "t", "239.2.2.2:5000", onPriv))
	for _, s := range n.sockets {
		s.allow(0, nil)
		<-s.free
	}
	batch := []session.Message{message("t", "x", 1)}
	b.send.handle(batch)
	if !batch[0].Hold {
		t.Fatal("not held, although it waits twice")
	}
	a := newAcked()
	a.watch(b.parts().bindings[0])
	a.watch(b.parts().bindings[1])
	n.sockets[0].allow(1, nil)
	waitFor(t, "the first to be sent", func() bool { return len(n.sockets[0].took()) == 1 })
	if len(a.some) != 0 {
		t.Fatal("acknowledged after the first of two")
	}
	n.sockets[1].allow(1, nil)
	a.wait(1)
}

func TestAFullQueueDropsTheOldestQoS0AndKeepsWhatIsToBeAcknowledged(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, 3*(overhead+1), rule(t, "r", "t", "239.1.1.1:5000"))
	n.socket().allow(0, nil)
	<-n.socket().free
	batch := []session.Message{message("t", "1", 0), message("t", "2", 0), message("t", "3", 1), message("t", "4", 0), message("t", "5", 0), message("t", "6", 0), message("t", "7", 1)}
	b.send.handle(batch)
	// 4 and 5 push out 1 and 2; 6 finds a QoS 1 message in front, and goes itself; 7 is left to the broker.
	var waiting []string
	for _, w := range b.parts().bindings[0].queue.front() {
		waiting = append(waiting, string(w.payload))
	}
	if diff := cmp.Diff([]string{"3", "4", "5"}, waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0].Drops["queue_full"]; got != 3 {
		t.Errorf("%d drops counted, want 3", got)
	}
	if !batch[2].Hold || !batch[6].Hold {
		t.Error("3 and 7 are to be held")
	}
}

func TestTopicsBeyondTheMemoryAreStillRouted(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t/{n}", "239.1.1.1:{n}"))
	for i := range maxRoutes {
		b.send.routes[fmt.Sprint("other/", i)] = &route{}
	}
	b.send.flows[flowKey{}] = &flow{}
	b.send.handle([]session.Message{message("t/5", "x", 1)})
	if got := n.socket().took(); len(got) != 1 || len(b.send.routes) != 1 || len(b.send.flows) != 1 {
		t.Errorf("sent %q, %d topics and %d flows remembered", got, len(b.send.routes), len(b.send.flows))
	}
}

func TestTheSendPathDoesNotAllocate(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t/{n}", "239.1.1.1:{n}"))
	b.parts().bindings[0].socket = blackHole{n.socket()}
	batch := make([]session.Message, 64)
	for i := range batch {
		batch[i] = session.Message{Topic: fmt.Append(nil, "t/", 1+i%7), Payload: bytes.Repeat([]byte{byte(i)}, 128), QoS: 1}
	}
	if got := testing.AllocsPerRun(100, func() { b.send.handle(batch) }); got != 0 {
		t.Errorf("%v allocations for a batch of %d", got, len(batch))
	}
	if n.socket().asked == 0 {
		t.Error("nobody asked for the carrier")
	}
}

// blackHole takes everything, and remembers nothing.
type blackHole struct{ *fakeSocket }

func (blackHole) Send(batch []multicast.Datagram, _ func(int, error)) (int, error) {
	return len(batch), nil
}

func BenchmarkHandle(b *testing.B) {
	for _, topics := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint("topics=", topics), func(b *testing.B) {
			n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
			br := newTestBridge(b, n, plenty, benchRule())
			br.parts().bindings[0].socket = blackHole{n.socket()}
			batch := make([]session.Message, 512)
			i := 0
			for b.Loop() {
				for j := range batch {
					batch[j] = session.Message{Topic: fmt.Appendf(batch[j].Topic[:0], "t/%d", 1+i%topics), Payload: payload128, QoS: 1}
					i++
				}
				br.send.handle(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/message")
		})
	}
}

func TestDebugLogsEachDatagramAndInfoNone(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 0} {
		var out bytes.Buffer
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		b.send.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))
		n.socket().allow(2, fmt.Errorf("gone: %w", multicast.ErrPending))
		b.send.handle([]session.Message{message("t", "abc", 1), message("t", "d", 1), message("t", "e", 1)})
		if got := strings.Count(out.String(), "rule=r topic=t group=239.1.1.1:5000 source=172.17.0.1:40000 interface=iso0"); got != want {
			t.Errorf("at %v: %d lines, want %d:\n%s", level, got, want, &out)
		}
	}
}

func TestWhatIsRefusedAfterItWaitedIsNotCountedAsSent(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	s := n.socket()
	s.allow(0, nil)
	<-s.free
	b.send.handle([]session.Message{message("t", "forbidden", 1), message("t", "good", 1)})
	a := newAcked()
	a.watch(b.parts().bindings[0])
	s.mu.Lock()
	s.reject = map[string]error{"forbidden": syscall.EPERM}
	s.mu.Unlock()
	s.allow(5, nil)
	if diff := cmp.Diff([]string{"forbidden", "good"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0]; got.Sent != 1 || got.Drops["firewall"] != 1 {
		t.Errorf("%d sent, drops %v", got.Sent, got.Drops)
	}
}

func TestAQueueThatNeverEmptiesKeepsNoMemoryOfWhatLeft(t *testing.T) {
	var q queue
	for i := range 100_000 {
		q.push(waiting{payload: []byte{byte(i)}})
		if i >= 10 {
			q.pop()
		}
	}
	if q.len() != 10 || cap(q.items) > 10_000 {
		t.Errorf("%d wait in room for %d", q.len(), cap(q.items))
	}
}

func TestARetainedMessageThatWaitsIsNotTakenForSent(t *testing.T) {
	n := &fakeNetwork{}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	m := message("t", "on", 1)
	m.Retain = true
	// The broker repeats it after a reconnect; were that one acknowledged, and
	// this process to die, nobody would have it.
	for range 2 {
		batch := []session.Message{m}
		b.send.handle(batch)
		if !batch[0].Hold {
			t.Fatal("acknowledged, though it was never sent")
		}
	}
	n.set(iso0)
	b.refresh(t.Context())
	waitFor(t, "both to leave", func() bool { return len(n.socket().took()) == 2 && b.Status().Queue.Messages == 0 })
	b.send.handle([]session.Message{m})
	if got := b.Status().Rules[0]; got.Sent != 2 || got.Drops["retained"] != 1 {
		t.Errorf("%d sent, drops %v; want the one after that held back", got.Sent, got.Drops)
	}
}

func TestARetainedMessageTwiceInABatchIsSentOnce(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	m := message("t", "on", 1)
	m.Retain = true
	b.send.handle([]session.Message{m, m})
	if got := n.socket().took(); len(got) != 1 {
		t.Errorf("sent %q", got)
	}
}
