package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// names are the rules of a status in its order.
func (s *Status) names() string {
	all := make([]string, len(s.Rules)+len(s.Receive))
	for _, r := range s.Rules {
		all[r.Place] = r.Name
	}
	for _, r := range s.Receive {
		all[r.Place] = r.Name
	}
	return strings.Join(all, " ")
}

func TestAStatusCanBeNarrowedAndSorted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty},
			[]mapping.SendRule{fake.SendRule(t, "quiet", "a", "239.1.1.1:5000"), fake.SendRule(t, "busy", "b/{id}", "239.1.1.{id}:5000"),
				fake.SendRule(t, "pending", "c", "239.1.1.1:5000", fake.OnPriv), fake.SendRule(t, "lost", "d/{id}", "239.7.7.{id}:5000")},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "Meters/{source}"), fake.ReceiveRule(t, "away", "239.2.1.2:5000", "x", func(r *mapping.ReceiveRule) { r.Interface = "priv0" })})
		b.send.Handle([]session.Message{fake.Message("d/300", "x", 1), fake.Message("d/301", "x", 1), fake.Message("c", "waits", 1), fake.Message("c", "waits", 1)})
		time.Sleep(time.Second)
		n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "x")
		synctest.Wait()
		time.Sleep(time.Second)
		b.send.Handle([]session.Message{fake.Message("b/1", "x", 1)})
		synctest.Wait()
		b.noteDrops(time.Now())
		for query, want := range map[Query]string{
			{}:                          "quiet busy pending lost in away",
			{Sort: "table"}:             "quiet busy pending lost in away",
			{Sort: "trouble"}:           "lost pending away quiet busy in",
			{Sort: "name"}:              "away busy in lost pending quiet",
			{Sort: "drops", Limit: 1}:   "lost",
			{Sort: "waiting", Limit: 1}: "pending",
			{Sort: "last", Limit: 3}:    "busy in pending",
			{State: "losing"}:           "lost",
			{State: "pending"}:          "pending away",
			{State: "up"}:               "busy in",
			{State: "idle"}:             "quiet",
			{State: "degraded"}:         "",
			{Match: "meters"}:           "in",
			{Match: "239.7"}:            "lost",
			{Match: "PRIV0"}:            "pending away",
			{Match: "b/{"}:              "busy",
			{Match: "172.17.0.1:4"}:     "quiet busy lost", // from where they really send
			{Match: "239.2.1.2"}:        "away",
		} {
			s := b.StatusOf(query)
			if got := s.names(); got != want {
				t.Errorf("%+v: %q, want %q", query, got, want)
			}
		}
		if got, want := b.StatusOf(Query{Limit: 2}).Summary, (Summary{Rules: 6, Matched: 6, Losing: 1, Pending: 2, Up: 2, Idle: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		// What a status says of a rule is enough to count it likewise.
		var counted Summary
		all := b.Status()
		for _, r := range all.Rules {
			*counted.of(slices.Index(Views(), ViewOf(r.State, r.LastDrop, r.LastReceived, time.Now())))++
		}
		for _, r := range all.Receive {
			*counted.of(slices.Index(Views(), ViewOf(r.State, r.LastDrop, r.LastReceived, time.Now())))++
		}
		if got := ViewOf(account.StateDisabled, time.Now(), time.Now(), time.Now()); got != "disabled" {
			t.Errorf("a disabled rule is shown as %s", got)
		}
		if counted.Rules, counted.Matched = 6, 6; counted != all.Summary {
			t.Errorf("counted by their status %+v, want %+v", counted, all.Summary)
		}
		if got, want := b.StatusOf(Query{Match: "a", State: "idle"}).Summary, (Summary{Rules: 6, Matched: 1, Pending: 2, Up: 1, Idle: 1, Losing: 0}); got.Matched != want.Matched || got.Rules != want.Rules {
			t.Errorf("%+v, want %+v", got, want)
		}
		// A minute later all is calm.
		time.Sleep(recent)
		b.noteDrops(time.Now())
		if got, want := b.Status().Summary, (Summary{Rules: 6, Matched: 6, Pending: 2, Idle: 4}); got != want {
			t.Errorf("a minute later %+v, want %+v", got, want)
		}
	})
}

func TestTheStatusSaysWhenARuleHadItsLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000")},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "in")})
		if r := b.Status().Rules[0]; !r.LastReceived.IsZero() || !r.LastSent.IsZero() || !r.LastDrop.IsZero() {
			t.Errorf("before the first message: %+v", r.Lately)
		}
		begin := time.Now()
		second := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
		time.Sleep(time.Second)
		b.send.Handle([]session.Message{fake.Message("t/1", "x", 1)})
		time.Sleep(time.Second)
		b.send.Handle([]session.Message{fake.Message("t/300", "x", 1)})
		b.noteDrops(time.Now())
		time.Sleep(time.Second)
		b.noteDrops(time.Now()) // nothing since
		n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "x")
		synctest.Wait()
		s := b.Status()
		if r := s.Rules[0]; !r.LastReceived.Equal(second(2)) || !r.LastSent.Equal(second(1)) || !r.LastDrop.Equal(second(2)) {
			t.Errorf("%+v; want the last received and dropped after 2 s, the last sent after 1 s", r.Lately)
		}
		if r := s.Receive[0]; !r.LastReceived.Equal(second(3)) || !r.LastDrop.IsZero() {
			t.Errorf("%+v; want the last received after 3 s", r.Lately)
		}
		// What waited counts as sent when it leaves.
		n.LastSocket().Allow(0, nil)
		b.send.Handle([]session.Message{fake.Message("t/1", "waits", 1)})
		time.Sleep(time.Second)
		if got := b.Status().Rules[0]; got.WaitingMemory != 1 {
			t.Errorf("%d wait in memory, want 1", got.WaitingMemory)
		}
		n.LastSocket().Allow(10, nil)
		synctest.Wait()
		if r := b.Status().Rules[0]; !r.LastSent.Equal(second(4)) || r.WaitingMemory != 0 {
			t.Errorf("%+v; want the last sent after 4 s, and none to wait", r.Lately)
		}
	})
}

func TestTheStatusSaysWhatWaitsOfEachRule(t *testing.T) {
	n := &fake.Network{}
	latest := fake.OnDown(mapping.OnDownLatest)
	b := bridgeWithSpool(t, n, fake.SendRule(t, "disk", "a", "239.1.1.1:5000"), fake.SendRule(t, "other", "b", "239.1.1.1:5000"))
	b.send.Handle([]session.Message{fake.Message("a", "1", 1), fake.Message("a", "2", 1), fake.Message("b", "3", 1)})
	b.allOnDisk(t)
	for i, want := range []int{2, 1} {
		if r := b.Status().Rules[i]; r.WaitingDisk != want || r.WaitingMemory != 0 || r.DiskBytes == 0 || r.WaitingBytes != 0 {
			t.Errorf("rule %s: %d on disk (%d bytes) and %d in memory (%d), want %d and 0", r.Name, r.WaitingDisk, r.DiskBytes, r.WaitingMemory, r.WaitingBytes, want)
		}
	}
	b = newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "all", "a", "239.1.1.1:5000"), fake.SendRule(t, "latest", "b", "239.1.1.1:5000", latest), fake.SendRule(t, "gone", "c", "239.1.1.1:5000"))
	b.send.Handle([]session.Message{fake.Message("a", "1", 1), fake.Message("a", "2", 1), fake.Message("b", "3", 1), fake.Message("b", "4", 1), fake.Message("c", "5", 1)})
	waits := func(want ...int) {
		t.Helper()
		var got []int
		s, bytes := b.Status(), int64(0)
		for _, r := range s.Rules {
			got = append(got, r.WaitingMemory)
			bytes += r.WaitingBytes
		}
		if bytes != s.Queue.Bytes {
			t.Errorf("%d bytes wait of all rules, %d of each together", s.Queue.Bytes, bytes)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v wait, want %v", got, want)
		}
	}
	waits(2, 1, 1)
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "all", "a", "239.2.2.2:5000"), fake.SendRule(t, "latest", "b", "239.1.1.1:5000", latest)}, nil)
	waits(2, 1)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "all to leave", func() bool { return b.Status().Queue.Messages == 0 })
	waits(0, 0)

	in, n, p := bridgeSpooling(t, t.TempDir(), 1<<20, Options{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	in.spooled(t, 2)
	if r := in.Status().Receive[0]; r.WaitingDisk != 2 || r.WaitingMemory != 0 || r.DiskBytes == 0 {
		t.Errorf("%d on disk and %d in memory, want 2 and 0", r.WaitingDisk, r.WaitingMemory)
	}
	in.connect(true)
	p.Deliver(t, 2)
	fake.WaitFor(t, "none to wait", func() bool { r := in.Status().Receive[0]; return r.WaitingDisk+r.WaitingMemory == 0 })
}

func (b *Bridge) noteDrops(now time.Time) {
	at := account.MomentOf(now)
	b.send.NoteDrops(at)
	b.receive.NoteDrops(at)
}

// What a rule says by its keys is asked for once, whoever shows it.
func TestTheStatusHasWhatTheRulesSay(t *testing.T) {
	asked := 0
	o := Options{QueueSize: fake.Plenty, Settings: func(rule any) []string {
		asked++
		if r, is := rule.(*mapping.SendRule); is {
			return []string{"ttl " + fmt.Sprint(r.Binding.TTL)}
		}
		return []string{"qos " + fmt.Sprint(rule.(*mapping.ReceiveRule).QoS)}
	}}
	b := newTestBridgeOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, o,
		[]mapping.SendRule{fake.SendRule(t, "out", "a", "239.1.1.1:5000")}, []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "b")})
	for range 3 {
		s := b.Status()
		if got := fmt.Sprint(s.Rules[0].Settings, s.Receive[0].Settings); got != "[ttl 1] [qos 1]" {
			t.Errorf("got %s", got)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	if s := b.Status(); s.Queue.KeptReceive != fake.Plenty/4 || s.Queue.KeptSend != fake.Plenty/4 {
		t.Errorf("kept: %+v", s.Queue)
	}
}
