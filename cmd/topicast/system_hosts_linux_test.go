package main

import (
	"fmt"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// Fifty devices that are switched off, with more for them than the send buffer holds, have nobody
// else wait; and one that is switched on gets what comes then.
func TestHostsThatDoNotAnswerDelayNoOther(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSystem(t, "  - { name: lamps, filter: 'lamp/{id}', host: '172.17.1.{id}:5000', source: 172.17.0.1, interface: iso0, qos: 1 }\n"+
		"  - { name: live, filter: live, host: '172.17.0.50:5000', source: 172.17.0.1, interface: iso0, qos: 1 }\n")
	frames, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	s.startAll("max_queued_messages 0")
	publisher := s.client("backend")
	const dead = 50
	padding := strings.Repeat("p", 1000)
	live := func(round, many int) {
		t.Helper()
		for id := 100; id < 100+dead; id++ {
			for n := range many {
				publisher.Publish(fmt.Sprint("lamp/", id), byte(min(round, 1)), false, fmt.Sprint(padding, n))
			}
		}
		want := fmt.Sprint("round ", round)
		s.publish(publisher, "live", []byte(want))
		frames.WaitFor(1, func(f netlab.Frame) bool { return f.UDP() && string(f.Payload) == want })
	}
	live(0, 100)
	if r := s.rule("lamps"); r.Down > 0 {
		t.Errorf("the host that answers got its own only when %d others were given up", r.Down)
	}
	s.eventually("all others are down", func() error {
		if r := s.rule("lamps"); r.Down != dead {
			return fmt.Errorf("%d are", r.Down)
		}
		return nil
	})
	live(1, 8)
	s.Dev.Addr("eth0", "172.17.1.107/16")
	s.eventually("a host that is switched on is noticed", func() error {
		s.publish(publisher, "lamp/107", []byte("is it on?"))
		if s.rule("lamps").Down != dead-1 {
			return fmt.Errorf("it is down")
		}
		return nil
	})
	s.publish(publisher, "lamp/107", []byte("on"))
	frames.WaitFor(1, func(f netlab.Frame) bool { return f.UDP() && string(f.Payload) == "on" })
	s.eventually("all is accounted for", func() error {
		r := s.rule("lamps")
		if r.Received < 100*dead || r.Received != r.Sent+r.Drops["unreachable"] || len(r.Drops) != 1 {
			return fmt.Errorf("of %d, %d left, dropped are %v, %d wait", r.Received, r.Sent, r.Drops, r.WaitingMemory)
		}
		return nil
	})
	priv.None(func(f netlab.Frame) bool { return f.UDP() && f.Dst.Port() == 5000 })
	for _, f := range frames.Datagrams() {
		if f.UDP() && f.Src.Addr().String() != "172.17.0.1" {
			t.Errorf("%v", f)
		}
	}
}
