package bridge

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
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

// localRoute is one that keeps groups on this host.
func localRoute(groups string) multicast.GatewayRoute {
	return multicast.GatewayRoute{Groups: netip.MustParsePrefix(groups), Interface: "iso0", Table: 255, Binding: true}
}

// setRoutes has the host have these routes, and tell.
func setRoutes(t *testing.T, n *fake.Network, b *Bridge, routes ...multicast.GatewayRoute) {
	n.Mu.Lock()
	n.Routes = routes
	n.Mu.Unlock()
	b.onLinkChange(multicast.Change{Routes: true})
	b.followRoutes(t.Context())
	b.reconcile(t.Context())
}

// expectMetrics looks for samples of rules, without the prefix.
func expectMetrics(t *testing.T, b *Bridge, samples ...string) {
	t.Helper()
	var text strings.Builder
	if err := b.WriteRules(&text); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if !strings.Contains(text.String(), "\ntopicast_"+s+"\n") {
			t.Errorf("the metrics have no %s", s)
		}
	}
}

// What a route keeps on this host counts as sent by the kernel; it is withheld, alone,
// and leaves in order when the route is gone.
func TestWhatARouteKeepsOnThisHostIsWithheld(t *testing.T) {
	for _, spool := range []bool{false, true} {
		t.Run(fmt.Sprint("spool ", spool), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeVerified}}
				rules := []mapping.SendRule{fake.SendRule(t, "kept", "kept", "239.10.0.1:5000"), fake.SendRule(t, "other", "other", "239.10.0.2:5000"),
					fake.SendRule(t, "now", "now", "239.10.0.1:5000", func(r *mapping.SendRule) { r.OnDown = mapping.OnDownDrop })}
				var b *Bridge
				if spool {
					b = bridgeWithSpool(t, n, rules...)
				} else {
					b = newTestBridge(t, n, fake.Plenty, rules...)
				}
				b.send.Handle([]session.Message{fake.Message("kept", "0", 1), fake.Message("other", "0", 1)})
				setRoutes(t, n, b, localRoute("239.10.0.1/32"))
				socket := n.LastSocket()
				batch := []session.Message{fake.Message("kept", "1", 1), fake.Message("other", "1", 1), fake.Message("now", "x", 1), fake.Message("kept", "2", 2), fake.Message("kept", "late", 0)}
				b.send.Handle(batch)
				time.Sleep(time.Second)
				if got := strings.Join(socket.Took(), ", "); got != "239.10.0.1:5000 0, 239.10.0.2:5000 0, 239.10.0.2:5000 1" {
					t.Errorf("sent %q", got)
				}
				// With a spool the disk may have taken them by then.
				if batch[1].Hold || !spool && !(batch[0].Hold && batch[3].Hold) {
					t.Errorf("held %v, %v, %v", batch[0].Hold, batch[1].Hold, batch[3].Hold)
				}
				s := b.Status()
				const why = "the route local 239.10.0.1/32 dev iso0 keeps groups on this host, so that nothing leaves; remove it: " +
					"ip route del local 239.10.0.1/32 dev iso0 table local; or, where it came with an address, ip addr del 239.10.0.1/32 dev iso0"
				if r := s.Rules[0]; r.State != account.StatePending || r.Reason != why || r.Sent != 1 || r.WaitingMemory+r.WaitingDisk != 2 || r.Drops["pending"] != 1 {
					t.Errorf("%+v", r)
				}
				if r := s.Rules[1]; r.State != account.StateUp || r.Sent != 2 {
					t.Errorf("%+v", r)
				}
				if r := s.Rules[2]; r.Drops["pending"] != 1 || r.Sent != 0 {
					t.Errorf("%+v", r)
				}
				expectMetrics(t, b, `rule_state{rule="kept",state="pending"} 1`, `rule_state{rule="kept",state="up"} 0`, `rule_source_verified{rule="kept"} 0`,
					`drops_total{direction="send",rule="kept",reason="pending"} 1`, `datagrams_sent_total{rule="kept"} 1`, `rule_state{rule="other",state="up"} 1`, `rule_source_verified{rule="other"} 1`)
				if r := b.Readiness(); r.Ready || !strings.Contains(fmt.Sprint(r.Conditions), why) {
					t.Errorf("readiness %+v", r)
				}
				setRoutes(t, n, b)
				b.send.Handle([]session.Message{fake.Message("kept", "3", 1)})
				time.Sleep(time.Second)
				if n.LastSocket() != socket {
					t.Error("the socket was opened anew")
				}
				if got := strings.Join(fake.Payloads(socket.Took()), " "); got != "0 0 1 1 2 3" {
					t.Errorf("sent %q", got)
				}
				if r := b.Status().Rules[0]; r.State != account.StateUp || r.Sent != 4 || r.WaitingMemory+r.WaitingDisk != 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// Of a rule for many groups, only those wait that the route covers.
func TestARouteThatKeepsOneGroupDegradesTheRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		var log bytes.Buffer
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			[]mapping.SendRule{fake.SendRule(t, "all", "t/{n}", "239.10.0.{n}:5000")}, nil)
		setRoutes(t, n, b, localRoute("239.10.0.1/32"))
		if text := log.String(); strings.Count(text, `level=WARN msg="groups withheld because of a route`) != 1 || strings.Contains(text, "binding pending") {
			t.Errorf("logged %s", text)
		}
		b.send.Handle([]session.Message{fake.Message("t/1", "1", 1), fake.Message("t/2", "2", 1)})
		if got := strings.Join(fake.Payloads(n.LastSocket().Took()), " "); got != "2" {
			t.Errorf("sent %q", got)
		}
		if r := b.Status().Rules[0]; r.State != account.StateDegraded || !strings.HasPrefix(r.Reason, "the route local 239.10.0.1/32 dev iso0") || r.WaitingMemory != 1 {
			t.Errorf("%+v", r)
		}
		expectMetrics(t, b, `rule_state{rule="all",state="degraded"} 1`, `rule_state{rule="all",state="up"} 0`, `datagrams_sent_total{rule="all"} 1`, `messages_received_total{rule="all"} 2`)
		setRoutes(t, n, b)
		time.Sleep(time.Second)
		if got := strings.Join(fake.Payloads(n.LastSocket().Took()), " "); got != "2 1" {
			t.Errorf("sent %q", got)
		}
		if text := log.String(); strings.Count(text, `level=INFO msg="groups no longer withheld because of a route" interface=iso0 rules=1 after=`) != 1 {
			t.Errorf("logged %s", text)
		}
	})
}

// Routes are not listed at each look: a router has very many.
func TestRoutesAreSeldomListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Routes: []multicast.GatewayRoute{localRoute("239.0.0.0/8")}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
		for range 100 {
			b.followRoutes(t.Context())
			time.Sleep(time.Second)
		}
		if r := b.Status().Rules[0]; r.State != account.StatePending || n.Listed != 1 {
			t.Errorf("%+v, listed %d times", r, n.Listed)
		}
		time.Sleep(routesEvery)
		if b.followRoutes(t.Context()); n.Listed != 2 {
			t.Errorf("listed %d times", n.Listed)
		}
	})
}
