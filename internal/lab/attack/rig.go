//go:build linux

package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// Where everything is:
//
//	dev  172.17.0.50 eth0 ──[iso]── iso0 172.17.0.1 ┐
//	     fd17::50                        fd17::1    ├ gw ─ priv0 10.0.0.2 ── 10.0.0.1 eth0 lan
//	dev2 172.18.0.50 eth0 ───────── iso1 172.18.0.1 ┘
//
// The attacker is on dev, on lan, or is whom the meddler stands for.
const (
	iso0, iso1, priv0 = "iso0", "iso1", "priv0"

	brokerHost    = "10.0.0.1"
	brokerAddress = brokerHost + ":1883"
	meddlerHost   = brokerHost + ":1884"
	localAddress  = "127.0.0.1:1883"
	webSocketPort = "127.0.0.1:1885" // mosquitto's, for the meddler
)

var (
	gateway, gateway6 = netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd17::1")
	device            = netip.MustParseAddr("172.17.0.50")

	// The groups of the honest rules.
	groups = map[string]netip.AddrPort{
		victimSend:       netip.MustParseAddrPort("239.1.1.1:5000"),
		neighbourSend:    netip.MustParseAddrPort("239.1.1.2:5000"),
		victimReceive:    netip.MustParseAddrPort("239.2.2.1:6000"),
		neighbourReceive: netip.MustParseAddrPort("239.2.2.2:6000"),
	}
	// The topics of the honest traffic, and of the rules that receive.
	topics = map[string]string{
		victimSend: "v/honest", neighbourSend: "n/honest", victimReceive: "r/v/honest", neighbourReceive: "r/n/honest",
	}
)

// A rig is everything that one attack happens to: the network, the broker, the bridge,
// and the honest traffic.
type rig struct {
	*netlab.Lab
	GW, Dev, Dev2, Lan *netlab.Host
	Iso                *netlab.Host // a switch

	ctx    context.Context
	dir    string // for what the processes read and write
	times  times
	attack attack
	binary string
	setup  setup

	protocol harness.Protocol // that the bridge speaks

	bridge    *netlab.Process
	processes []harness.LoggedProcess
	group     *harness.MemoryGroup // of the bridge; nil: the machine has none
	meddler   *meddler             // nil: the bridge is connected with mosquitto itself

	streams      map[string]*stream // the honest ones
	others       map[string]*stream // of rules that carry only what is the attacker's
	witness      *stream            // passes the broker, and not the bridge
	devices      []*netlab.Device
	row          row
	mu           sync.Mutex                                     // guards row.Cost, heard, sources
	heard        func(*netlab.Host, netlab.Received, time.Time) // is called with what the devices receive; nil: nobody asks
	sources      map[string]netip.AddrPort                      // where the sending rules send from, by their names
	began        time.Time                                      // the attack
	earlier      map[string]int                                 // what bridges that are gone counted, by rule
	earlierLines int                                            // and logged
	quiet        atomic.Bool                                    // the honest traffic has stopped

	clients sync.WaitGroup // what carries traffic from and to the hosts
}

// newRig makes the network.
func newRig(ctx context.Context, t netlab.T, dir string) *rig {
	l := netlab.New(t)
	r := &rig{
		Lab: l, dir: dir,
		GW: l.Host("gw"), Dev: l.Host("dev"), Dev2: l.Host("dev2"), Lan: l.Host("lan"),
		Iso:   l.Switch("iso"),
		setup: defaultSetup(), streams: map[string]*stream{}, others: map[string]*stream{}, witness: &stream{name: "witness", size: ordinarySize, topics: "w/"}, sources: map[string]netip.AddrPort{}, earlier: map[string]int{},
	}
	// By an index that is not that of its peer: where they are equal the kernel tells of the
	// carrier up to a second late, and the switch does not forward until then.
	r.PlugAs(r.GW, iso0, 101, r.Iso)
	// No switch: one takes a second to forward again what a port has a carrier for anew.
	r.Link(r.GW, iso1, r.Dev2, "eth0")
	r.Plug(r.Dev, "eth0", r.Iso)
	r.Link(r.GW, priv0, r.Lan, "eth0")
	for _, a := range []struct {
		host        *netlab.Host
		dev, prefix string
	}{
		{r.GW, iso0, "172.17.0.1/16"}, {r.GW, iso0, "fd17::1/64"}, {r.GW, iso1, "172.18.0.1/16"}, {r.GW, priv0, "10.0.0.2/24"},
		{r.Dev, "eth0", "172.17.0.50/16"}, {r.Dev, "eth0", "fd17::50/64"}, {r.Dev2, "eth0", "172.18.0.50/16"},
		{r.Lan, "eth0", "10.0.0.1/24"},
	} {
		a.host.Addr(a.dev, a.prefix)
	}
	for _, name := range allStreams {
		r.streams[name] = &stream{name: name, size: ordinarySize}
	}
	// Cleanups run in reverse order: the clients end before their network does.
	own, cancel := context.WithCancel(ctx)
	r.ctx = own
	t.Cleanup(func() {
		cancel()
		r.clients.Wait()
	})
	return r
}

// watch has what is given to a rule of the attack judged as what is given to the honest
// rules is: it comes out below a topic, or at a group, or waits, or is counted.
func (r *rig) watch(rule, topics string, group netip.AddrPort) {
	r.others[rule] = &stream{name: rule, topics: topics, group: group}
}

// stream is that of a rule, or nil.
func (r *rig) stream(rule string) *stream {
	if s := r.streams[rule]; s != nil {
		return s
	}
	return r.others[rule]
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

// start starts everything, and lets the honest traffic run.
func (r *rig) start() error {
	lines := []string{"per_listener_settings false", "max_queued_messages 0", "max_inflight_messages 0", "allow_anonymous true",
		"set_tcp_nodelay true", "listener 1883 " + brokerHost, "listener 1883 127.0.0.1", "listener 1885 127.0.0.1", "protocol websockets"}
	p, err := harness.StartMosquitto(r.ctx, r.Lan, r.file("mosquitto.conf"), localAddress, lines...)
	if p != nil {
		r.processes = append(r.processes, harness.LoggedProcess{Name: "mosquitto", Process: p})
	}
	if err != nil {
		return err
	}
	if err := r.startMeddler(); err != nil {
		return err
	}
	if err := r.startBridge(); err != nil {
		return err
	}
	if err := r.startTraffic(); err != nil {
		return err
	}
	r.pause(r.times.before)
	return nil
}

// fail notes what else is not as it should be.
func (r *rig) fail(format string, args ...any) { r.row.Fail(format, args...) }

// failed fails the row if there is an error.
func (r *rig) must(err error) {
	if err != nil && r.ctx.Err() == nil {
		r.fail("%v", err)
	}
}

// addNote notes what the attack showed beside the figures.
func (r *rig) addNote(format string, args ...any) { r.row.Note(format, args...) }

// spend adds to what the attack costs.
func (r *rig) spend(c cost) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := &r.row.Cost
	all.Datagrams += c.Datagrams
	all.Messages += c.Messages
	all.Packets += c.Packets
	all.Connections += c.Connections
	all.Requests += c.Requests
	all.Bytes += c.Bytes
}

func (r *rig) pause(d time.Duration) { harness.Pause(r.ctx, d) }

// last waits until the attack has lasted as long as one does that has no time of its own.
func (r *rig) last() { r.pause(time.Until(r.began.Add(r.times.attack))) }

// times n is so many of what an attack has a number of, or fewer where it is to be quick.
func (r *rig) many(n int) int { return n / r.times.share }

func (r *rig) until(limit time.Duration, done func() bool) bool {
	return harness.Until(r.ctx, limit, done)
}

// pace does something so many times a second, for as long as an attack lasts, and at
// most so many times in all; 0: as often as there is time for. It ends with an error.
func (r *rig) pace(perSecond, most int, do func(i int) error) {
	const tick = 2 * time.Millisecond
	began := time.Now()
	for i := 0; r.ctx.Err() == nil; {
		passed := time.Since(began)
		if passed > r.times.attack && (most == 0 || i >= most) || most > 0 && i >= most {
			return
		}
		due := int(passed.Seconds() * float64(perSecond))
		if most > 0 {
			due = min(due, most)
		}
		// A pause is not made up for by a burst that a real line could not carry.
		for due = min(due, i+perSecond/50+1); i < due; i++ {
			if err := do(i); err != nil {
				r.must(err)
				return
			}
		}
		harness.Pause(r.ctx, tick)
	}
}
