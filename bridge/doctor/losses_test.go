package doctor

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
)

// lost has a send rule lose one message, a minute ago, and send one since where it passed.
func lost(p *patient, reason, first string, passed bool) {
	for _, s := range p.sent {
		s.Drops, s.FirstDrops = map[string]uint64{reason: 1}, map[string]string{reason: first}
		s.LastDrop, s.LastSent = now.Add(-time.Minute), now.Add(-2*time.Minute)
		if passed {
			s.LastSent = now.Add(-time.Second)
		}
	}
}

func TestALossThatHasEndedIsNoCause(t *testing.T) {
	for name, row := range map[string]struct {
		change func(p *patient)
		want   []Cause
	}{
		"a firewall that was opened": {func(p *patient) { lost(p, "firewall", "topic a: forbidden", false) }, nil},
		"a firewall that cannot be read": {func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", false)
			p.h.Rules = nil
		}, []Cause{EgressFirewall}},
		"a firewall that cannot be read, and messages pass": {func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", true)
			p.h.Rules = nil
		}, nil},
		"a firewall for one of the groups of a template": {func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", true)
			p.h.Rules, p.Exact = nil, false
		}, []Cause{EgressFirewall}},
		"a firewall that is closed": {func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", true)
			p.h.Rules = dropping("output", ofUDP)
		}, []Cause{EgressFirewall}},
		"more is lost meanwhile": {func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", true)
			p.sent[0].Drops = nil
		}, []Cause{EgressFirewall}},
		"a queue that was full": {func(p *patient) { lost(p, "queue_full", "topic a", true) }, nil},
		"a queue that is full": {func(p *patient) {
			lost(p, "queue_full", "topic a", true)
			p.sent[1].WaitingMemory = 1
		}, []Cause{QueueFull}},
		"a message that was wrong, and others that pass": {func(p *patient) { lost(p, "bad_payload", "topic a: x", true) }, []Cause{Dropped}},
		"a host that answers again": {func(p *patient) {
			lost(p, "unreachable", "topic a: host 172.17.0.9 does not answer on its link; it has not since x", false)
		}, nil},
	} {
		p := newPatient(true)
		row.change(p)
		if got := p.causes(); !slices.Equal(got, row.want) {
			t.Errorf("%s: found %q, want %q", name, got, row.want)
		}
		r := Examine(p.h, []*Subject{p.Subject})
		said := slices.ContainsFunc(r.Seen, func(s string) bool { return strings.Contains(s, "lost messages until 16:59:00, and does not any more") })
		if said != (row.want == nil) {
			t.Errorf("%s: seen %q", name, r.Seen)
		}
	}
	p := newPatient(false)
	for _, s := range p.published {
		s.Drops, s.LastDrop = map[string]uint64{"offline": 3}, now.Add(-time.Minute)
	}
	if got := p.causes(); !slices.Equal(got, []Cause{Dropped}) {
		t.Errorf("found %q of a receive rule by which nothing passed", got)
	}
	p.published[1].Published++
	if got := p.causes(); len(got) > 0 {
		t.Errorf("found %q of a receive rule by which something passed", got)
	}
}

func TestALossOfBeforeHidesNoOtherCause(t *testing.T) {
	p := newPatient(true)
	lost(p, "firewall", "topic a: forbidden", false)
	p.h.Rules, p.sent[1].State, p.sent[1].Reason = nil, account.StatePending, "no room for sockets"
	if got := p.causes(); !slices.Equal(got, []Cause{EgressFirewall, Pending}) {
		t.Errorf("found %q", got)
	}
}

func TestWhatWasLostOfAnotherTopicIsNoCauseForThisOne(t *testing.T) {
	examine := func(asked string, change func(p *patient)) Report {
		p := newPatient(true)
		p.Topic = asked
		lost(p, "bad_payload", "topic rpc/700: no hexadecimal", false)
		change(p)
		return Examine(p.h, []*Subject{p.Subject})
	}
	same := func(*patient) {}
	if r := examine("rpc/66", same); len(r.Findings) > 0 || !slices.ContainsFunc(r.Seen, func(s string) bool {
		return strings.Contains(s, "the first of another topic: ") && strings.Contains(s, "topic rpc/700: no hexadecimal")
	}) {
		t.Errorf("%+v", r)
	}
	for _, asked := range []string{"rpc/700", ""} {
		if r := examine(asked, same); len(r.Findings) != 1 || r.Findings[0].Cause != Dropped || !strings.Contains(r.Findings[0].Text, "has dropped what came") {
			t.Errorf("%q: %+v", asked, r.Findings)
		}
	}
	// It may be this one that is lost now.
	if r := examine("rpc/66", func(p *patient) { p.sent[0].Drops = nil }); len(r.Findings) != 1 {
		t.Errorf("%+v", r.Findings)
	}
	r := examine("rpc/66", func(p *patient) { p.TopicErr, p.h.Daemon = errors.New("300 is no byte"), Daemon{Off: true} })
	if len(r.Findings) != 1 || r.Findings[0].Cause != Dropped || !strings.Contains(r.Findings[0].Text, "no target of this topic") {
		t.Errorf("%+v", r.Findings)
	}
}
