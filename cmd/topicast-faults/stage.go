//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"topicast/bridge/netlab"
)

// Where everything is:
//
//	dev  172.17.0.50 eth0 ──[iso]── iso0 172.17.0.1 ┐
//	     fd17::50                        fd17::1    ├ gw ─ priv0 10.0.0.2 ── 10.0.0.1 eth0 lan
//	dev2 172.18.0.50 eth0 ──[iso1]─ iso1 172.18.0.1 ┘
const (
	iso0, iso1, priv0 = "iso0", "iso1", "priv0"

	sourcePrefix  = "172.17.0.1/16"
	sourcePrefix6 = "fd17::1/64"
	otherPrefix   = "172.18.0.1/16"
	gatewayID     = "gateway-7"
)

var (
	group4 = netip.MustParseAddrPort("239.1.1.1:5000")
	group6 = netip.MustParseAddrPort("[ff15::1]:5000")
	groupB = netip.MustParseAddrPort("239.1.1.2:5000")
)

// A stage is everything that one fault happens to: the network, the broker, the
// bridge, and the traffic. The stories in faults*.go act on it.
type stage struct {
	*netlab.Lab
	GW, Dev, Dev2, Lan *netlab.Host
	Iso, Iso1          *netlab.Host // switches

	ctx   context.Context
	dir   string // for what the processes read and write
	times times
	build build
	way   way
	deaf  bool // the fault keeps from hearing; see cut

	// What the story's prepare may change before anything is started.
	broker brokerSetup
	rules  ruleSetup
	disk   string // options of a file system of its own for the spool; empty: none

	mosquitto, bridge *netlab.Process
	started           []named
	retired           int // drops counted by bridges that are gone

	feed    feed
	streams []string
	counts  map[string]*count
	device  []*netlab.Device
	spans   map[string][]span
	open    map[string]int // where the span that has begun begins
	row     row
	strange int
	wrong   int
	mu      sync.Mutex // over strange and wrong
}

// named is a process with what it is called in the logs that are kept.
type named struct {
	name string
	*netlab.Process
}

// times says how long everything takes.
type times struct {
	hold   time.Duration // a fault
	down   time.Duration // where one rule is down and another is watched
	before time.Duration // traffic before a fault, and after it
	stall  time.Duration // a broker that stands still
	heal   time.Duration // until a fault counts as never healed
	quiet  time.Duration // nothing arrives: the run is over
	kills  int
}

var (
	thorough = times{hold: 5 * time.Second, down: time.Minute, before: 2 * time.Second, stall: 40 * time.Second,
		heal: 45 * time.Second, quiet: 3 * time.Second, kills: 20}
	quick = times{hold: 1500 * time.Millisecond, down: 4 * time.Second, before: 500 * time.Millisecond, stall: 9 * time.Second,
		heal: 20 * time.Second, quiet: 1500 * time.Millisecond, kills: 3}
)

// patience is how long the suite waits for what it needs itself.
const patience = 15 * time.Second

// newStage makes the network.
func newStage(ctx context.Context, t testing.TB, dir string, w way) *stage {
	l := netlab.New(t)
	s := &stage{
		Lab: l, ctx: ctx, dir: dir, way: w,
		GW: l.Host("gw"), Dev: l.Host("dev"), Dev2: l.Host("dev2"), Lan: l.Host("lan"),
		Iso: l.Switch("iso"), Iso1: l.Switch("iso1"),
		streams: []string{"a"}, counts: map[string]*count{}, spans: map[string][]span{}, open: map[string]int{},
	}
	s.Plug(s.GW, iso0, s.Iso)
	s.Plug(s.GW, iso1, s.Iso1)
	s.Plug(s.Dev, "eth0", s.Iso)
	s.Plug(s.Dev2, "eth0", s.Iso1)
	s.Link(s.GW, priv0, s.Lan, "eth0")
	// A moved source is not of dev2's network.
	s.Dev2.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	s.Dev2.Sysctl("net.ipv4.conf.eth0.rp_filter", "0")
	for _, a := range []struct {
		host        *netlab.Host
		dev, prefix string
	}{
		{s.GW, iso0, sourcePrefix}, {s.GW, iso0, sourcePrefix6}, {s.GW, iso1, otherPrefix}, {s.GW, priv0, "10.0.0.2/24"},
		{s.Dev, "eth0", "172.17.0.50/16"}, {s.Dev, "eth0", "fd17::50/64"}, {s.Dev2, "eth0", "172.18.0.50/16"},
		{s.Lan, "eth0", "10.0.0.1/24"},
	} {
		a.host.Addr(a.dev, a.prefix)
	}
	s.rules = ruleSetup{source: "172.17.0.1", iface: iso0, group: group4}
	return s
}

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

// start starts everything, waits until the broker has what it needs to keep all
// messages, and lets the traffic run.
func (s *stage) start(rate int) error {
	for _, name := range s.streams {
		s.counts[name] = &count{}
	}
	if err := s.startBroker(); err != nil {
		return err
	}
	if err := s.startBridge(); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	if s.way == sending {
		s.feed = startBackend(s.ctx, rate, s.streams, s.dialLocal)
	} else {
		t, err := startTalkers(s.ctx, rate, "a", s.rules.group, s.mouths())
		if err != nil {
			return err
		}
		s.feed = t
	}
	if s.way == sending || !s.rules.absent {
		s.hear()
	}
	s.pass(s.times.before)
	return nil
}

// listen puts a counting end where the traffic comes out.
func (s *stage) listen() error {
	if s.way == receiving {
		w := startWitness(s.ctx, s.dialLocal, func(payload []byte) { s.note(payload) })
		select {
		case <-w.subscribed:
			return nil
		case <-time.After(patience):
			return fmt.Errorf("the witness could not subscribe")
		}
	}
	source := netip.MustParseAddr(s.rules.source)
	note := func(r netlab.Received) {
		other := r.Group == groupB // the rule of stream b leaves by iso1
		if r.Source.Addr() != source && !other {
			s.mu.Lock()
			s.wrong++
			s.mu.Unlock()
		}
		s.note(r.Payload)
	}
	s.device = append(s.device,
		s.Dev.Listener("eth0", note, group4, group6),
		s.Dev2.Listener("eth0", note, group4, groupB))
	return nil
}

func (s *stage) mouths() []mouth {
	if s.rules.group.Addr().Is6() {
		return []mouth{{s.Dev, netip.MustParseAddr("fd17::50")}}
	}
	return []mouth{{s.Dev, netip.MustParseAddr("172.17.0.50")}, {s.Dev2, netip.MustParseAddr("172.18.0.50")}}
}

func (s *stage) note(payload []byte) {
	stream, number, made, ok := readPayload(payload)
	c := s.counts[stream]
	if !ok || c == nil {
		s.mu.Lock()
		s.strange++
		s.mu.Unlock()
		return
	}
	c.note(number, made, time.Now())
}

// pass lets time go by.
func (s *stage) pass(d time.Duration) { pause(s.ctx, d) }

// hold is how long a fault lasts where the story does not say otherwise.
func (s *stage) hold() { s.pass(s.times.hold) }

// cut ends what counts as said, where the fault keeps the bridge from hearing. What
// was said a moment before is given the time to be read.
func (s *stage) cut() {
	if s.way != receiving || !s.deaf {
		return
	}
	for name, from := range s.open {
		s.spans[name] = append(s.spans[name], span{from, s.feed.next(name)})
	}
	clear(s.open)
	s.pass(50 * time.Millisecond)
}

// hear begins to count what is said from now on.
func (s *stage) hear() {
	for _, name := range s.streams {
		if _, open := s.open[name]; !open {
			s.open[name] = s.feed.next(name)
		}
	}
}

// over says that the fault has ended, and waits until something has arrived since.
func (s *stage) over() {
	now := time.Now()
	for _, c := range s.counts {
		c.over(now)
	}
	healed := s.until(s.times.heal, func() bool {
		for _, c := range s.counts {
			if !c.healed() {
				return false
			}
		}
		return true
	})
	if s.way == receiving && s.deaf {
		if err := s.awaitUp(s.times.heal); err != nil && s.ctx.Err() == nil {
			s.fail("%v", err)
		}
	}
	s.hear()
	if !healed {
		s.row.never = true
	}
}

// until polls, for what happens in other processes tells nobody.
func (s *stage) until(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); pause(s.ctx, 5*time.Millisecond) {
		if time.Now().After(deadline) || s.ctx.Err() != nil {
			return false
		}
	}
	return true
}

// fail notes what else is not as it should be.
func (s *stage) fail(format string, args ...any) {
	s.row.failures = append(s.row.failures, fmt.Sprintf(format, args...))
}

// tell notes what the fault showed beside the counts.
func (s *stage) tell(format string, args ...any) {
	s.row.notes = append(s.row.notes, fmt.Sprintf(format, args...))
}
