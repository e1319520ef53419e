//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
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

// A rig is everything that one fault happens to: the network, the broker, the
// bridge, and the traffic. The functions in faults*.go act on it.
type rig struct {
	*netlab.Lab
	GW, Dev, Dev2, Lan *netlab.Host
	Iso, Iso1          *netlab.Host // switches

	ctx           context.Context
	dir           string // for what the processes read and write
	times         times
	build         build
	way           way
	cannotReceive bool // the fault keeps from receiving; see cut
	protocol      harness.Protocol

	// What a fault's prepare may change before anything is started.
	broker brokerSetup
	rules  ruleSetup
	qos    byte   // of the messages, as they are published or subscribed to
	disk   string // options of a file system of its own for the spool; empty: none

	mosquitto, bridge *netlab.Process
	processes         []harness.LoggedProcess
	manager           *manager // that gets the watchdog beats of the bridge; nil: none
	earlierDrops      int      // drops counted by bridges that are gone

	feed        feed
	streams     []string
	counts      map[string]*count
	retained    *count // messages that the broker keeps; nil: there are none
	devices     []*netlab.Device
	cable       *netlab.Capture // where the order is judged, of one stream; nil: at the device
	spans       map[string][]span
	open        map[string]int // where the span that has begun begins
	row         row
	unknown     int
	wrongSource int
	mu          sync.Mutex // faultEnded strange and wrong

	clients sync.WaitGroup // what carries traffic from and to the hosts
}

// times is how long everything takes.
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
	fullTimes = times{hold: 5 * time.Second, down: time.Minute, before: 2 * time.Second, stall: 40 * time.Second,
		heal: 45 * time.Second, quiet: 3 * time.Second, kills: 20}
	quickTimes = times{hold: 1500 * time.Millisecond, down: 4 * time.Second, before: 500 * time.Millisecond, stall: 9 * time.Second,
		heal: 20 * time.Second, quiet: 1500 * time.Millisecond, kills: 3}
)

// newRig makes the network.
func newRig(ctx context.Context, t netlab.T, dir string, w way) *rig {
	l := netlab.New(t)
	r := &rig{
		Lab: l, ctx: ctx, dir: dir, way: w,
		GW: l.Host("gw"), Dev: l.Host("dev"), Dev2: l.Host("dev2"), Lan: l.Host("lan"),
		Iso: l.Switch("iso"), Iso1: l.Switch("iso1"),
		qos: 1, streams: []string{"a"}, counts: map[string]*count{}, spans: map[string][]span{}, open: map[string]int{},
	}
	r.Plug(r.GW, iso0, r.Iso)
	r.Plug(r.GW, iso1, r.Iso1)
	r.Plug(r.Dev, "eth0", r.Iso)
	r.Plug(r.Dev2, "eth0", r.Iso1)
	r.Link(r.GW, priv0, r.Lan, "eth0")
	// A moved source is not of dev2's network.
	r.Dev2.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	r.Dev2.Sysctl("net.ipv4.conf.eth0.rp_filter", "0")
	for _, a := range []struct {
		host        *netlab.Host
		dev, prefix string
	}{
		{r.GW, iso0, sourcePrefix}, {r.GW, iso0, sourcePrefix6}, {r.GW, iso1, otherPrefix}, {r.GW, priv0, "10.0.0.2/24"},
		{r.Dev, "eth0", "172.17.0.50/16"}, {r.Dev, "eth0", "fd17::50/64"}, {r.Dev2, "eth0", "172.18.0.50/16"},
		{r.Lan, "eth0", "10.0.0.1/24"},
	} {
		a.host.Addr(a.dev, a.prefix)
	}
	r.rules = ruleSetup{source: "172.17.0.1", iface: iso0, group: group4}
	// Cleanups run in reverse order: the clients end before their network does.
	own, cancel := context.WithCancel(ctx)
	r.ctx = own
	t.Cleanup(func() {
		cancel()
		r.clients.Wait()
	})
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

// start starts everything, waits until the broker has what it needs to keep all
// messages, and lets the traffic run.
func (r *rig) start(rate int) error {
	for _, name := range r.streams {
		r.counts[name] = &count{}
	}
	if err := r.startBroker(); err != nil {
		return err
	}
	if err := r.startLimiter(); err != nil {
		return err
	}
	if err := r.startBridge(); err != nil {
		return err
	}
	if err := r.listen(); err != nil {
		return err
	}
	if r.way == sending {
		p := startPublisher(r.ctx, rate, r.qos, r.streams, r.connectLocal)
		r.clients.Go(func() { <-p.done })
		r.feed = p
	} else {
		t, err := startTalkers(r.ctx, rate, "a", r.rules.group, r.endpoints())
		if err != nil {
			return err
		}
		r.clients.Go(func() { <-t.done })
		r.feed = t
	}
	if r.way == sending || !r.rules.absent {
		r.openSpans()
	}
	r.pause(r.times.before)
	return nil
}

// listen puts a counting end where the traffic comes out.
func (r *rig) listen() error {
	if r.way == receiving {
		w := startSubscriber(r.ctx, r.qos, r.connectLocal, func(payload []byte) { r.record(payload) })
		r.clients.Go(func() { <-w.done })
		select {
		case <-w.subscribed:
			return nil
		case <-time.After(harness.Patience):
			return fmt.Errorf("the subscriber could not subscribe")
		}
	}
	source := netip.MustParseAddr(r.rules.source)
	note := func(d netlab.Received) {
		other := d.Group == groupB // the rule of stream b leaves by iso1
		if d.Source.Addr() != source && !other {
			r.mu.Lock()
			r.wrongSource++
			r.mu.Unlock()
		}
		r.record(d.Payload)
	}
	r.devices = append(r.devices,
		r.Dev.Listener("eth0", note, group4, group6),
		r.Dev2.Listener("eth0", note, group4, groupB))
	return nil
}

func (r *rig) endpoints() []endpoint {
	if r.rules.group.Addr().Is6() {
		return []endpoint{{r.Dev, netip.MustParseAddr("fd17::50")}}
	}
	return []endpoint{{r.Dev, netip.MustParseAddr("172.17.0.50")}, {r.Dev2, netip.MustParseAddr("172.18.0.50")}}
}

func (r *rig) record(payload []byte) {
	stream, number, made, ok := readPayload(payload)
	c := r.counts[stream]
	if stream == retainedStream {
		c = r.retained
	}
	if !ok || c == nil {
		r.mu.Lock()
		r.unknown++
		r.mu.Unlock()
		return
	}
	c.note(number, made, time.Now())
}

// pause lets time go by.
func (r *rig) pause(d time.Duration) { harness.Pause(r.ctx, d) }

// hold waits for as long as a fault lasts, where it has no time of its own.
func (r *rig) hold() { r.pause(r.times.hold) }

// closeSpans ends what counts as in, where the fault keeps the bridge from receiving.
// What was sent a moment before is given the time to be read.
func (r *rig) closeSpans() {
	if r.way != receiving || !r.cannotReceive {
		return
	}
	for name, from := range r.open {
		r.spans[name] = append(r.spans[name], span{from, r.feed.next(name)})
	}
	clear(r.open)
	r.pause(50 * time.Millisecond)
}

// openSpans begins to count as in what is sent from now on.
func (r *rig) openSpans() {
	for _, name := range r.streams {
		if _, open := r.open[name]; !open {
			r.open[name] = r.feed.next(name)
		}
	}
}

// awaitRecovery notes that the fault has ended, and waits until something has arrived since.
func (r *rig) awaitRecovery() {
	now := time.Now()
	for _, c := range r.counts {
		c.faultEnded(now)
	}
	healed := r.until(r.times.heal, func() bool {
		for _, c := range r.counts {
			if !c.recovered() {
				return false
			}
		}
		return true
	})
	if r.way == receiving && r.cannotReceive {
		if err := r.awaitUp(r.times.heal); err != nil && r.ctx.Err() == nil {
			r.fail("%v", err)
		}
	}
	r.openSpans()
	if !healed {
		r.row.neverRecovered = true
	}
}

// drain has no more come, and waits until nothing is on its way.
func (r *rig) drain() {
	r.feed.suspend(true)
	for _, name := range r.streams {
		all := span{to: r.feed.next(name)}
		if !r.until(r.times.heal, func() bool { return r.counts[name].within([]span{all}) == all.to }) {
			r.fail("%d of %d messages are still on their way", all.to-r.counts[name].within([]span{all}), all.to)
		}
	}
}

func (r *rig) until(limit time.Duration, done func() bool) bool {
	return harness.Until(r.ctx, limit, done)
}

// fail notes what else is not as it should be.
func (r *rig) fail(format string, args ...any) { r.row.Fail(format, args...) }

// addNote notes what the fault showed beside the counts.
func (r *rig) addNote(format string, args ...any) { r.row.Note(format, args...) }
