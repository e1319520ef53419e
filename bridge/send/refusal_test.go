package send_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What never leaves, and looks like a queue that is full.
func TestWhatCanNeverLeaveIsFoundOutAndDropped(t *testing.T) {
	for name, c := range map[string]struct {
		send    string // payloads, one message each; those of 5 and more never leave
		qos     byte
		idle    bool
		within  time.Duration
		sent    string
		dropped uint64
	}{
		"the queue is idle":               {send: "long! a b", qos: 1, idle: true, within: 1500 * time.Millisecond, sent: "a b", dropped: 1},
		"of QoS 2":                        {send: "long! a b", qos: 2, idle: true, within: 1500 * time.Millisecond, sent: "a b", dropped: 1},
		"all of them":                     {send: "long! longer longest", qos: 1, idle: true, within: 2 * time.Second, dropped: 3},
		"one alone":                       {send: "long!", qos: 1, idle: true, within: 1500 * time.Millisecond, dropped: 1},
		"several, and short ones between": {send: "long! longer a longest b long! c", qos: 1, idle: true, within: 2 * time.Second, sent: "a b c", dropped: 4},
		"the length is remembered, not the first": {send: "longer a long! b longer c", qos: 1, idle: true, within: 4 * time.Second, sent: "a b c", dropped: 3},
		"others fill the queue":                   {send: "long! a b", qos: 1, within: 12 * time.Second, sent: "a b", dropped: 1},
		"others fill it, more than one":           {send: "long! a long! b", qos: 1, within: 12 * time.Second, sent: "a b", dropped: 2},
		"of QoS 0":                                {send: "long! a b", within: 1500 * time.Millisecond, sent: "a b", dropped: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
				s := n.LastSocket()
				s.Never, s.Emptied = 5, c.idle
				var batch []session.Message
				for _, p := range strings.Fields(c.send) {
					batch = append(batch, fake.Message("t", p, c.qos))
				}
				b.send.Handle(batch)
				acks := b.acks()
				b.watching(c.within)
				if got := strings.Join(fake.Payloads(s.Took()), " "); got != c.sent {
					t.Errorf("sent %q, want %q", got, c.sent)
				}
				if got := b.Status().Rules[0]; got.Drops["no_buffer"] != c.dropped || len(got.Drops) != 1 || got.State != account.StateUp {
					t.Errorf("drops %v, in state %s (%s)", got.Drops, got.State, got.Reason)
				}
				if c.qos > 0 && len(acks.list()) != len(batch) {
					t.Errorf("acknowledged %q, want all", acks.list())
				}
			})
		})
	}
}

// The next of the same length costs a moment, not a second.
func TestTheLengthOfWhatCanNeverLeaveIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		s := n.LastSocket()
		s.Never, s.Emptied = 5, true
		b.send.Handle([]session.Message{fake.Message("t", "long!", 1)})
		b.watching(2 * time.Second)
		began := time.Now()
		for range 100 {
			b.send.Handle([]session.Message{fake.Message("t", "longer", 1), fake.Message("t", "a", 1)})
		}
		for b.Status().Queue.Messages > 0 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 2*time.Second || len(s.Took()) != 100 {
			t.Errorf("took %v, sent %d", took, len(s.Took()))
		}
		s.Never = 0 // the shaper is gone
		b.send.Handle([]session.Message{fake.Message("t", "longer", 1)})
		s.Allow(0, multicast.ErrNoBuffer)
		b.send.Handle([]session.Message{fake.Message("t", "longer", 1)})
		time.Sleep(send.BufferPatience / 2)
		if got := b.Status(); got.Queue.Messages != 1 || got.Rules[0].Drops["no_buffer"] != 101 {
			t.Errorf("%d wait, drops %v; a length that leaves is not remembered", got.Queue.Messages, got.Rules[0].Drops)
		}
	})
}

// A queue that is full for long is waited for, with QoS 1 and 2.
func TestAFullQueueIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		full    error
		dropped uint64
		sent    string
	}{
		"the queue":       {multicast.ErrNoBuffer, 2, "a b c"},
		"the send buffer": {multicast.ErrWouldBlock, 0, "a b zero c later"}, // where QoS 0 waits too
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
				s := n.LastSocket()
				s.Allow(0, c.full)
				<-s.Free
				b.send.Handle([]session.Message{fake.Message("t", "a", 1), fake.Message("t", "b", 2), fake.Message("t", "zero", 0), fake.Message("t", "c", 1)})
				b.watching(time.Minute)
				b.send.Handle([]session.Message{fake.Message("t", "later", 0)})
				got := b.Status()
				if uint64(got.Queue.Messages) != 5-c.dropped || got.Rules[0].Drops["no_buffer"] != c.dropped {
					t.Errorf("%d wait, drops %v", got.Queue.Messages, got.Rules[0].Drops)
				}
				if r := got.Rules[0]; r.State != account.StateDegraded || !strings.Contains(r.Reason, "iso0") || time.Since(r.Since) < 50*time.Second {
					t.Errorf("%s (%s) since %v", r.State, r.Reason, time.Since(r.Since))
				}
				if r := b.Status().Rules[0]; r.State != account.StateDegraded {
					t.Errorf("the rule is %s", r.State)
				}
				s.Allow(10, nil)
				time.Sleep(time.Second)
				if got := strings.Join(fake.Payloads(s.Took()), " "); got != c.sent {
					t.Errorf("sent %q", got)
				}
				if got := b.Status().Rules[0]; got.State != account.StateUp {
					t.Errorf("still %s (%s)", got.State, got.Reason)
				}
			})
		})
	}
}

// A slow shaper has room for a short one before it has for a long one.
func TestALongDatagramWaitsForASlowShaper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		s := n.LastSocket()
		s.Never = 5
		b.send.Handle([]session.Message{fake.Message("t", "long!", 1), fake.Message("t", "a", 1)})
		b.watching(5 * time.Second)
		s.Mu.Lock()
		s.Never = 0
		s.Mu.Unlock()
		time.Sleep(time.Second)
		if got := strings.Join(fake.Payloads(s.Took()), " "); got != "long! a" || b.Status().Rules[0].Drops != nil {
			t.Errorf("sent %q, drops %v", got, b.Status().Rules[0].Drops)
		}
	})
}

// Where nothing leaves, the disk takes what its rules have, so that the broker gets its
// acknowledgements; what uses no disk waits.
func TestWhatWaitsForAFullQueueGoesToTheDisk(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := spooling(t, n, fake.SendRule(t, "memory", "m", "239.1.1.2:5000", fake.OnDown(mapping.OnDownDrop)), fake.SendRule(t, "disk", "t/{id}", "239.1.1.1:5000"))
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	s := n.LastSocket()
	s.Allow(0, multicast.ErrNoBuffer)
	<-s.Free
	b.send.Handle([]session.Message{fake.Message("m", "m0", 1), fake.Message("t/1", "0", 1), fake.Message("t/1", "zero", 0), fake.Message("t/1", "1", 1)})
	later := time.Now().Add(send.StuckPatience)
	fake.WaitFor(t, "it to be found", func() bool {
		b.send.FindStuck(later)
		return b.Status().Rules[0].State == account.StateDegraded
	})
	for i := 2; i < 10; i++ {
		b.send.Handle([]session.Message{fake.Message("t/1", fmt.Sprint(i), 1), fake.Message("m", fmt.Sprint("m", i), 1)})
	}
	b.spilled(t)
	if got := b.Status(); got.Spool.Messages != 10 || got.Queue.Messages != 9 || got.Rules[1].Drops["no_buffer"] != 1 || got.Rules[1].State != account.StateDegraded {
		t.Errorf("%d on disk, %d in memory, drops %v, %s", got.Spool.Messages, got.Queue.Messages, got.Rules[1].Drops, got.Rules[1].State)
	}
	s.Allow(100, nil)
	fake.WaitFor(t, "all of them", func() bool { return len(s.Took()) == 19 })
	var disk, memory []string
	for _, p := range fake.Payloads(s.Took()) {
		if strings.HasPrefix(p, "m") {
			memory = append(memory, p)
		} else {
			disk = append(disk, p)
		}
	}
	if strings.Join(disk, "") != "0123456789" || strings.Join(memory, " ") != "m0 m2 m3 m4 m5 m6 m7 m8 m9" {
		t.Errorf("sent %q and %q", disk, memory)
	}
	fake.WaitFor(t, "the rule to be up", func() bool { return b.Status().Rules[1].State == account.StateUp })
}

// What can never leave is on disk, or in front of one rule of several.
func TestWhatCanNeverLeaveHoldsUpNoOtherRule(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "a", "a", "239.1.1.1:5000"), fake.SendRule(t, "b", "b", "239.1.1.2:5000"))
	b.send.Handle([]session.Message{fake.Message("a", "a long one", 1), fake.Message("a", "a1", 1), fake.Message("b", "b long one", 1), fake.Message("b", "b1", 1), fake.Message("a", "a2", 1)})
	b.spilled(t)
	never := func(s *fake.Socket) { s.Never, s.Emptied = 5, true }
	n.OnOpened = never
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "the others", func() bool { return len(n.LastSocket().Took()) == 3 })
	if a := b.Status(); a.Rules[0].Drops["no_buffer"] != 1 || a.Rules[1].Drops["no_buffer"] != 1 {
		t.Errorf("drops %v and %v", a.Rules[0].Drops, a.Rules[1].Drops)
	}
	fake.WaitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
}

// Nor while it is not known yet whether it can leave.
func TestWhatIsRefusedOnDiskHoldsUpNoOtherRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{OnOpened: func(s *fake.Socket) { s.Never = 5 }}
		b := spooling(t, n, fake.SendRule(t, "a", "a", "239.1.1.1:5000"), fake.SendRule(t, "b", "b", "239.1.1.2:5000"), fake.SendRule(t, "m", "m", "239.1.1.3:5000", fake.OnDown(mapping.OnDownDrop)))
		b.send.Handle([]session.Message{fake.Message("a", "long!", 1), fake.Message("a", "a1", 1), fake.Message("b", "b1", 1), fake.Message("b", "b2", 1)})
		for b.Status().Rules[0].WaitingDisk < 2 || b.send.Storing() > 0 {
			time.Sleep(time.Millisecond)
		}
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		b.send.Handle([]session.Message{fake.Message("m", "m1", 1)})
		b.watching(3 * time.Second)
		if got := strings.Join(fake.Payloads(n.LastSocket().Took()), " "); got != "b1 b2 m1" {
			t.Errorf("sent %q while a long one waits", got)
		}
		b.watching(9 * time.Second)
		if got := strings.Join(fake.Payloads(n.LastSocket().Took()), " "); got != "b1 b2 m1 a1" {
			t.Errorf("sent %q in the end", got)
		}
	})
}

// What waits in memory is let go of when it is too old, whatever it waits for, so that it
// withholds no acknowledgement for longer; behind what has no such limit too.
func TestWhatIsTooOldInMemoryIsLetGoWhereverItWaits(t *testing.T) {
	for name, full := range map[string]error{"no interface": nil, "a full queue": multicast.ErrNoBuffer, "a full send buffer": multicast.ErrWouldBlock} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{}
				if full != nil {
					n.Present = []multicast.Interface{fake.Iso0}
				}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "for ever", "f", "239.1.1.2:5000"), fake.SendRule(t, "short", "t", "239.1.1.1:5000", fake.MaxAge(5*time.Second)))
				if full != nil {
					n.LastSocket().Allow(0, full)
					<-n.LastSocket().Free
				}
				b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("f", "2", 1), fake.Message("t", "3", 2), fake.Message("f", "4", 1)})
				acks := b.acks()
				ctx, stop := context.WithCancel(t.Context())
				var ended sync.WaitGroup
				ended.Go(func() { b.watch(ctx) })
				time.Sleep(4 * time.Second)
				if len(acks.list()) > 0 {
					t.Errorf("acknowledged %q early", acks.list())
				}
				time.Sleep(5*time.Second + 10*time.Second)
				if got := b.Status().Rules[1].Drops; strings.Join(acks.list(), " ") != "1 3" || got["expired"] != 2 {
					t.Errorf("acknowledged %q, drops %v", acks.list(), got)
				}
				stop()
				ended.Wait()
				n.Set(fake.Iso0)
				b.reconcile(t.Context())
				n.LastSocket().Allow(10, nil)
				time.Sleep(time.Second)
				if got := strings.Join(fake.Payloads(n.LastSocket().Took()), " "); got != "2 4" {
					t.Errorf("sent %q", got)
				}
			})
		})
	}
}

// What the kernel refuses for another reason, and always will, is done with at once, also
// where it waited, in memory or on disk.
func TestWhatIsRefusedForGoodWithholdsNothing(t *testing.T) {
	refusals := map[string]error{"long": multicast.ErrTooLong, "firewall": syscall.EPERM, "access": syscall.EACCES, "invalid": syscall.EINVAL}
	want := map[string]uint64{"oversize": 1, "firewall": 1, "refused": 2}
	for name, onDisk := range map[string]bool{"in memory": false, "on disk": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{OnOpened: func(s *fake.Socket) { s.Reject = refusals }}
				r := fake.SendRule(t, "r", "t", "239.1.1.1:5000")
				var b *rig
				if onDisk {
					b = spooling(t, n, r)
				} else {
					b = newRig(t, n, fake.Plenty, r)
				}
				var batch []session.Message
				for payload := range refusals {
					batch = append(batch, fake.Message("t", payload, 1), fake.Message("t", "well", 2))
				}
				b.send.Handle(batch)
				acks := b.acks()
				for onDisk && b.send.Storing() > 0 {
					time.Sleep(time.Millisecond)
				}
				n.Set(fake.Iso0)
				b.reconcile(t.Context())
				time.Sleep(time.Second)
				if got := b.Status(); !maps.Equal(got.Rules[0].Drops, want) || got.Rules[0].Sent != 4 || got.Rules[0].WaitingDisk+got.Rules[0].WaitingMemory > 0 {
					t.Errorf("%+v", got.Rules[0])
				}
				if !onDisk && len(acks.list()) != len(batch) {
					t.Errorf("acknowledged %q", acks.list())
				}
			})
		})
	}
}

// A line so slow that seconds pass between two datagrams is logged once, not each time.
func TestASlowLineIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
		s := n.LastSocket()
		s.Allow(0, multicast.ErrNoBuffer)
		for i := range 100 {
			b.send.Handle([]session.Message{fake.Message("t", fmt.Sprint(i), 1)})
		}
		for i := range 60 {
			b.watching(5 * time.Second)
			if r := b.Status().Rules[0]; r.State != account.StateDegraded {
				t.Fatalf("%d: %s", i, r.State)
			}
			s.Allow(1, multicast.ErrNoBuffer)
		}
		s.Allow(100, nil)
		time.Sleep(time.Second)
		if n, m := strings.Count(log.String(), "no datagrams leave"), strings.Count(log.String(), "leave again"); n != 1 || m != 1 || len(s.Took()) != 100 {
			t.Errorf("logged %d and %d times, sent %d:\n%s", n, m, len(s.Took()), log.String())
		}
	})
}

// That nothing leaves is found out also where the binding is sending each time it is
// looked at.
func TestALineThatIsTriedAtEachLookIsFoundStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		n.LastSocket().Allow(0, multicast.ErrNoBuffer)
		n.Slow = time.Second
		b.send.Handle([]session.Message{fake.Message("t", "1", 1)})
		began, stuck := time.Now(), false
		for i := 1; !stuck && i < 10_000; i++ {
			time.Sleep(time.Millisecond)
			if i%1000 == 0 {
				b.send.FindStuck(time.Now())
			}
			stuck = b.Status().Rules[0].State == account.StateDegraded
		}
		if took := time.Since(began); !stuck || took > send.StuckPatience+3*time.Second { // each try takes a second
			t.Errorf("stuck: %v, after %v", stuck, took)
		}
		n.LastSocket().Allow(1, nil)
		time.Sleep(10 * time.Second)
	})
}

// A datagram that the kernel refuses has not left, however long it is: what is known of
// the length that never leaves stays known.
func TestARefusedDatagramDoesNotCountAsOneOfItsLengthThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		s := n.LastSocket()
		s.Emptied = true
		never := func(length int, reject map[string]error) {
			s.Mu.Lock()
			defer s.Mu.Unlock()
			s.Never, s.Reject = length, reject
		}
		long := strings.Repeat("x", 200)
		// known reports whether one of that length is dropped at once.
		known := func() bool {
			never(100, nil)
			before := b.Status().Rules[0].Drops["no_buffer"]
			b.send.Handle([]session.Message{fake.Message("t", long[:100], 1)})
			time.Sleep(send.BufferPatience / 2)
			at := b.Status().Rules[0].Drops["no_buffer"] > before
			time.Sleep(2 * send.BufferPatience) // by then it is gone in any case
			return at
		}
		if known() || !known() {
			t.Error("the length is not remembered, or was before")
		}
		never(0, map[string]error{long: errors.New("refused")})
		b.send.Handle([]session.Message{fake.Message("t", long, 1)})
		if !known() {
			t.Error("forgotten after a datagram that was refused")
		}
		never(0, nil)
		b.send.Handle([]session.Message{fake.Message("t", long[1:], 1)})
		if known() {
			t.Error("known still after a longer one has left")
		}
		if got := b.Status().Rules[0]; got.Drops["no_buffer"] != 4 || got.Drops["refused"] != 1 {
			t.Errorf("drops %v", got.Drops)
		}
	})
}

// Where the kernel has no room for one more neighbour, an idle queue is no sign that a datagram
// can never leave, nor that others leave; but for a long time.
func TestWhatFindsNoRoomForANeighbourIsWaitedFor(t *testing.T) {
	for name, full := range map[string]error{"over IPv4": multicast.ErrNoBuffer, "over IPv6": errors.Join(multicast.ErrNoNeighbour, multicast.ErrNoBuffer)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
				s := n.LastSocket()
				s.Emptied, s.Crowded = true, true
				s.Allow(0, full)
				b.send.Handle([]session.Message{fake.Message("t", "a", 1), fake.Message("t", "b", 2), fake.Message("t", "c", 1)})
				b.watching(send.CrowdedPatience / 2)
				if got := b.Status(); got.Queue.Messages != 3 || got.Rules[0].Drops != nil || !strings.Contains(got.Rules[0].Reason, "gc_thresh3") {
					t.Errorf("%d wait, drops %v, %s", got.Queue.Messages, got.Rules[0].Drops, got.Rules[0].Reason)
				}
				s.Mu.Lock()
				calls := s.Calls
				s.Mu.Unlock()
				time.Sleep(time.Second)
				s.Mu.Lock()
				calls = s.Calls - calls
				s.Mu.Unlock()
				if most := int(time.Second / send.CrowdedPause); calls < most/2 || calls > most+1 {
					t.Errorf("tried %d times in a second", calls)
				}
				s.Allow(10, nil)
				time.Sleep(time.Second)
				if got := strings.Join(fake.Payloads(s.Took()), " "); got != "a b c" {
					t.Errorf("sent %q", got)
				}
			})
		})
	}
}

// One that can never leave, and is refused while there is no room for neighbours either, is
// found out all the same once others have left for long.
func TestWhatCanNeverLeaveIsFoundOutThoughThereIsNoRoomForNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "o", "o", "239.1.1.2:5000"))
		s := n.LastSocket()
		s.Never, s.Emptied, s.Crowded = 5, true, true
		b.send.Handle([]session.Message{fake.Message("t", "long!", 1), fake.Message("t", "a", 1)})
		for i := range 70 {
			b.send.Handle([]session.Message{fake.Message("o", "o", 1)})
			b.watching(time.Second)
			got := b.Status()
			if dropped := got.Rules[0].Drops["no_buffer"] == 1; dropped != (i >= int(send.CrowdedPatience/time.Second)) && i != int(send.CrowdedPatience/time.Second)-1 {
				t.Fatalf("after %d s: drops %v", i+1, got.Rules[0].Drops)
			}
		}
		if got := fake.Payloads(s.Took()); got[len(got)-1] != "o" || !strings.Contains(strings.Join(got, ""), "a") || len(got) != 71 {
			t.Errorf("sent %q", got)
		}
	})
}
