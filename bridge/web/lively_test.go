package web

import (
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/bridge/tap"
)

// lively is a bridge of so many rules, which carry more and more; in trouble some lose messages, some
// are pending, and some wait.
type lively struct {
	prometheus.Collector
	rules   int
	trouble bool
	began   time.Time
	names   []string // of the first rules, instead of others
	clock   func() time.Time
	newer   atomic.Bool // another version runs now
}

func newLively(rules int, trouble bool) *lively {
	return &lively{Collector: newFake(busy).Collector, rules: rules, trouble: trouble, began: time.Now().Add(-26 * time.Hour), clock: time.Now,
		names: []string{"lamps", "blinds", "stage-universe-1", "door-relays", "smart-meters", "knx-telegrams", "lift-sensors", "fire-alarms"}}
}

func (l *lively) name(i int) string {
	if i < len(l.names) {
		return l.names[i]
	}
	return fmt.Sprintf("%s-%05d", [...]string{"lamp", "blind", "valve", "relay", "meter", "probe", "panel", "motor"}[i%8], i)
}

// receives reports whether a rule is of receive.
func (l *lively) receives(i int) bool { return i%8 >= 4 }

// carried is what has come by a rule until now: each has a rhythm of its own.
func (l *lively) carried(i int) float64 {
	t := l.clock().Sub(l.began).Seconds()
	rate := [...]float64{42, 3.4, 1760, .2, 310, 88, 12, 0}[i%8]
	return rate * (t - 12*math.Cos(t/20+float64(i)) - 0.8*math.Cos(t/2.5+float64(3*i)))
}

// state is what a rule is in, and what of it is lost.
func (l *lively) state(i int) (state account.State, reason string, lost uint64) {
	if !l.trouble {
		return account.StateUp, "", 0
	}
	switch i % 40 {
	case 1:
		return account.StatePending, "interface iso1 is down", 0
	case 2:
		t := l.clock().Sub(l.began).Seconds()
		return account.StateUp, "", uint64(max(0, 30*(t-26*3600+60)))
	case 6:
		return account.StateDegraded, "1 of 8 groups is not joined: no buffer space available: raise net.ipv4.igmp_max_memberships", 0
	}
	if l.trouble && i%40 == 7 {
		return account.StateDisabled, "disabled by root; topicast enable has it go on", 0
	}
	return account.StateUp, "", 0
}

func (l *lively) Counts() iter.Seq[bridge.RuleCounts] {
	return func(yield func(bridge.RuleCounts) bool) {
		for i := range l.rules {
			c := bridge.RuleCounts{Direction: "send", Name: l.name(i), In: uint64(l.carried(i))}
			if l.receives(i) {
				c.Direction = "receive"
			}
			var state account.State
			if state, _, c.Dropped = l.state(i); state == account.StateUp {
				c.Out = c.In - min(c.In, c.Dropped)
			}
			if !yield(c) {
				return
			}
		}
	}
}

func (l *lively) lately(i int) (at account.Lately, lost uint64) {
	now := l.clock()
	_, _, lost = l.state(i)
	if lost > 0 {
		at.LastDrop = now.Truncate(time.Second)
	}
	if l.carried(i) > 0 {
		at.LastReceived = now.Add(-time.Duration(i%5) * time.Second)
	}
	if l.trouble && i%40 == 1 {
		at.WaitingMemory, at.WaitingBytes, at.WaitingDisk, at.DiskBytes = 812, 1<<20, 20431, 9<<20
	}
	at.Settings = []string{"ttl 8", "qos 2"}
	return at, lost
}

func (l *lively) Snapshot(q bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status]) {
	now := l.clock()
	s := bridge.Status{Version: "1.4.0", Host: "gateway-7.plant.example", Started: l.began, Ready: !l.trouble,
		Broker: bridge.BrokerStatus{Connected: true, URL: "mqtts://broker.plant.example:8883", Protocol: "5", ClientID: "topicast-hall-3", Since: l.began, Connects: 2, Outstanding: 3},
		Queue:  bridge.QueueStatus{Messages: 3, Bytes: 1 << 14, Size: 32 << 20}, Spool: &bridge.SpoolStatus{Dir: "/var/lib/topicast", Size: 256 << 20}, Reload: &bridge.ReloadStatus{At: l.began, OK: true}}
	if l.newer.Load() {
		s.Version = "1.5.0"
	}
	if l.rules == 0 {
		s.Reload, s.Spool = nil, nil
	}
	if l.trouble {
		s.Waiting = []string{"rule blinds is pending: interface iso1 is down"}
		s.Queue.Messages, s.Queue.Bytes = 5120, 28<<20
		s.Spool.Messages, s.Spool.Bytes = 20431, 96<<20
		s.NoRule = 1288
		s.Reload = &bridge.ReloadStatus{At: now.Add(-90 * time.Second), Error: "/etc/topicast/topicast.yaml:14:12: send[2].ttl: 300 is not between 1 and 255"}
	}
	s.Summary.Rules = l.rules
	type placed struct{ i, view int }
	var all []placed
	for i := range l.rules {
		if q.Match != "" && !strings.Contains(l.name(i), strings.ToLower(q.Match)) {
			continue
		}
		at, _ := l.lately(i)
		state, _, _ := l.state(i)
		view := slices.Index(bridge.Views(), bridge.ViewOf(state, at.LastDrop, at.LastReceived, now))
		*[]*int{&s.Summary.Losing, &s.Summary.Pending, &s.Summary.Degraded, &s.Summary.Disabled, &s.Summary.Up, &s.Summary.Idle}[view]++
		if q.State == "" || q.State == bridge.Views()[view] {
			all = append(all, placed{i, min(view, 4)})
		}
	}
	s.Summary.Matched = len(all)
	if q.Sort == "trouble" {
		slices.SortStableFunc(all, func(a, b placed) int { return a.view - b.view })
	}
	if q.Limit > 0 {
		all = all[:min(len(all), q.Limit)]
	}
	return s, func(yield func(send.Status) bool) {
			for place, p := range all {
				if !l.receives(p.i) && !yield(l.send(p.i, place)) {
					return
				}
			}
		}, func(yield func(receive.Status) bool) {
			for place, p := range all {
				if l.receives(p.i) && !yield(l.receive(p.i, place)) {
					return
				}
			}
		}
}

func (l *lively) send(i, place int) send.Status {
	at, lost := l.lately(i)
	at.Place = place
	s := send.Status{Name: l.name(i), Direction: "send", Filter: fmt.Sprintf("plant/hall-%d/%s/+/set", i%7, l.name(i)), Group: fmt.Sprintf("239.10.%d.{id}:30000", i%250), Interface: "iso0",
		Source: "172.17.0.1:46016", Since: l.began, SelfTest: send.SelfTest{Result: "source_verified"}, Received: uint64(l.carried(i)), Lately: at}
	s.State, s.Reason, _ = l.state(i)
	if s.State == account.StateUp {
		s.Sent = s.Received - min(s.Received, lost)
	}
	if lost > 0 {
		s.Drops = map[string]uint64{"bad_group": lost, "no_buffer": 4}
		s.FirstDrops = map[string]string{"bad_group": "topic plant/hall-2/lamp/700/set: group 239.10.2.{id}:30000: id is 700, and a byte of an address is at most 255"}
	}
	return s
}

func (l *lively) receive(i, place int) receive.Status {
	at, _ := l.lately(i)
	at.Place = place
	s := receive.Status{Name: l.name(i), Groups: []string{fmt.Sprintf("239.12.%d.1:9522", i%250)}, Interface: "iso1", Sources: []string{"172.18.0.0/24"}, Topic: "plant/" + l.name(i) + "/{source}",
		Since: l.began, Sockets: 1, Joined: 1, Buffer: 8 << 20, Received: uint64(l.carried(i)), Published: uint64(l.carried(i)), Lately: at, Filtered: map[string]uint64{"unchanged": uint64(l.carried(i) / 3)}}
	s.State, s.Reason, _ = l.state(i)
	return s
}

func (l *lively) Readiness() bridge.Readiness { return bridge.Readiness{Ready: !l.trouble} }
func (l *lively) WriteRules(io.Writer) error  { return nil }

func (l *lively) Effective(rule string) ([]bridge.Key, bool) {
	return []bridge.Key{{Key: "name", Value: rule}, {Key: "filter", Value: "plant/hall-0/lamps/+/set"}, {Key: "group", Value: "239.10.0.{id}:30000"}, {Key: "interface", Value: "iso0"},
		{Key: "source", Value: "172.17.0.1"}, {Key: "ttl", Value: "8"}, {Key: "qos", Value: "2", Means: "each message once, as far as the broker and topicast go"},
		{Key: "retained", Value: "once", Means: "what the broker has kept leaves once, and not again at each connect", Default: true},
		{Key: "oversize", Value: "fragment", Default: true}, {Key: "on_down", Value: "spool", Means: "waits on disk until the interface is there"}, {Key: "max_age", Value: "1h", Default: true}}, true
}

// chatter tells a tap what a rule carries, until the channel closes.
func chatter(on *tap.Tap, l *lively, end <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		case <-time.After(30 * time.Millisecond):
		}
		n := i % max(1, min(l.rules, 8))
		e := tap.Event{Time: time.Now(), Direction: tap.Send, Decision: tap.Sent, Rule: l.name(n), Topic: fmt.Sprintf("plant/hall-%d/%s/%d/set", n, l.name(n), i%200), To: addrPort("239.10.0.7:30000"),
			Source: addrPort("172.17.0.1:46016"), Interface: "iso0", Bytes: 14, Latency: time.Duration(20+i%90) * time.Microsecond, Payload: []byte(`{"on":true,"level":80}`)}
		switch {
		case l.receives(n):
			e.Direction, e.Decision, e.Topic, e.Source, e.Payload = tap.Receive, tap.Published, "plant/"+l.name(n)+"/172.18.0.50", addrPort("172.18.0.50:9522"), []byte{0x53, 0x4d, 0x41, 0, 0, 4, 2, 0xa0}
		case l.trouble && n == 2:
			e.Decision, e.Reason, e.Detail, e.To = tap.Dropped, "bad_group", "id is 700, and a byte of an address is at most 255", addrPort("")
		}
		on.Tell(e)
	}
}
