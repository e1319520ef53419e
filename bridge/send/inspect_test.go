package send_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// That datagrams go one by one is said once, and so is the end of it.
func TestWhySegmentedSendsAreGivenUpIsTold(t *testing.T) {
	var log bytes.Buffer
	shaped := fake.Iso0
	shaped.Queue = "tbf"
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		[]mapping.SendRule{fake.SendRule(t, "a", "a", "239.1.1.1:5000")}, nil)
	told := func(why string, once, again int) {
		t.Helper()
		b.send.Inspect()
		b.send.Inspect()
		if got := b.Status().Rules[0].OneByOne; got != why {
			t.Errorf("one_by_one is %q, want %q", got, why)
		}
		if n, m := strings.Count(log.String(), "one by one"), strings.Count(log.String(), "segmented sends again"); n != once || m != again {
			t.Errorf("logged %d and %d times, want %d and %d:\n%s", n, m, once, again, log.String())
		}
		if len(n.Sockets) != 1 {
			t.Errorf("%d sockets: one serves, whatever the queue", len(n.Sockets))
		}
	}
	told("", 0, 0)
	n.Set(shaped)
	b.reconcile(t.Context())
	told("cut up by tbf", 1, 0)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	told("", 1, 1)
	s := n.LastSocket()
	s.Mu.Lock()
	s.Unsegmented = errors.New("the driver refuses")
	s.Mu.Unlock()
	told("the driver refuses", 2, 1)
}

// Who else has a fixed source port is looked at again and again: the kernel does not
// tell. Of other ports nobody asks.
func TestAFixedSourcePortIsLookedAtForOthers(t *testing.T) {
	for port, want := range map[uint16]int{0: 0, 5353: 2} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "a", "a", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Binding.SourcePort = port }))
		b.send.Inspect()
		b.send.Inspect()
		s := n.LastSocket()
		s.Mu.Lock()
		if s.Looked != want {
			t.Errorf("port %d: looked %d times, want %d", port, s.Looked, want)
		}
		s.Mu.Unlock()
	}
}
