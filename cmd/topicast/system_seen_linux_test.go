package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

func TestReadinessFollowsTheBrokerAndHealthDoesNot(t *testing.T) {
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1, interface: iso0 }\n")
	s.startBridge()
	notReady := func(why ...string) {
		t.Helper()
		s.eventually("topicast says that it is not ready", func() error {
			code, body, err := s.get("/readyz")
			switch {
			case err != nil:
				return err
			case code != http.StatusServiceUnavailable:
				return fmt.Errorf("/readyz: %d", code)
			}
			for _, w := range why {
				if !strings.Contains(body, w) {
					return fmt.Errorf("/readyz does not say %q but %q", w, body)
				}
			}
			return nil
		})
		if code, _, err := s.get("/healthz"); err != nil || code != http.StatusOK {
			t.Errorf("/healthz: %d %v, want 200 without a broker", code, err)
		}
		if got, ok := s.metrics()["topicast_broker_connected"]; !ok || got != 0 {
			t.Errorf("topicast_broker_connected %v, want 0", got)
		}
	}
	notReady("broker", "connection refused")

	broker := s.startBroker()
	s.ready()
	status := s.status()
	if b := status.Broker; !status.Ready || !b.Connected || b.ClientID != gatewayID || b.Subscriptions != 1 {
		t.Errorf("/status: ready %t, broker %+v", status.Ready, b)
	}
	if r := status.Rules[0]; r.State != "up" || r.Interface != "iso0" || !strings.HasPrefix(r.Source, "172.17.0.1:") || r.Filter != "lamps/#" || r.Group != "239.1.2.3:5000" {
		t.Errorf("/status: rule %+v", r)
	}
	if got := s.metrics()["topicast_broker_connected"]; got != 1 {
		t.Errorf("topicast_broker_connected %v, want 1", got)
	}
	broker.Kill()
	notReady("broker")
	s.startBroker()
	s.ready()
	s.Dev.Down("eth0")
	s.eventually("a link without carrier is noticed", func() error {
		if code, body, err := s.get("/readyz"); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "iso0") {
			return fmt.Errorf("/readyz: %d %q %v", code, body, err)
		}
		return nil
	})
	s.Dev.Up("eth0")
	s.ready()
}

func TestMetricsHaveTheirNames(t *testing.T) {
	s := newSystem(t, "  - { name: lamps, filter: \"lamps/{id}\", group: \"239.1.2.{id}:5000\", source: 172.17.0.1, interface: iso0 }\n")
	wire := s.Dev.Capture("eth0")
	s.startAll()
	publisher := s.client("backend")
	s.publish(publisher, "lamps/300", thirteen)
	s.publish(publisher, "lamps/1", thirteen)
	wire.WaitFor(1, nil)
	want := map[string]float64{
		`topicast_messages_received_total{rule="lamps"}`:                         2,
		`topicast_datagrams_sent_total{rule="lamps"}`:                            1,
		`topicast_sent_bytes_total{rule="lamps"}`:                                13,
		`topicast_drops_total{direction="send",rule="lamps",reason="bad_group"}`: 1,
		`topicast_drops_total{direction="send",rule="",reason="no_rule"}`:        0,
		`topicast_rule_state{rule="lamps",state="up"}`:                           1,
		`topicast_rule_state{rule="lamps",state="pending"}`:                      0,
		`topicast_rule_state{rule="lamps",state="degraded"}`:                     0,
		`topicast_queue_messages`:                                                0,
		`topicast_queue_bytes`:                                                   0,
		`topicast_broker_connected`:                                              1,
		`topicast_send_seconds_count`:                                            1,
		`topicast_send_seconds_bucket{le="+Inf"}`:                                1,
	}
	var metrics map[string]float64
	s.eventually("each is as the messages were", func() error { // the wire has a datagram before it is counted
		metrics = s.metrics()
		got := map[string]float64{}
		for sample := range want {
			if value, ok := metrics[sample]; ok {
				got[sample] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
	build := false
	for sample, value := range metrics {
		build = build || strings.HasPrefix(sample, "topicast_build_info{") && value == 1
	}
	if !build {
		t.Error("no topicast_build_info")
	}
}

func TestStatusTopicSaysOnlineAndOffline(t *testing.T) {
	s := newSystem(t, "  - { filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1 }\n")
	s.startBroker()
	words := make(chan string, 10)
	watcher := s.client("watcher")
	s.done(watcher.Subscribe("topicast/"+gatewayID+"/status", 1, func(_ mqtt.Client, m mqtt.Message) {
		words <- string(m.Payload())
	}), "subscribe")
	says := func(want string) {
		t.Helper()
		select {
		case got := <-words:
			if got != want {
				t.Fatalf("the status topic says %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("the status topic does not say %q", want)
		}
	}
	p := s.startBridge()
	says("online")
	s.ready()
	if err := p.Stop(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit status 0", err)
	}
	says("offline")
	p = s.startBridge()
	says("online")
	p.Kill()
	says("offline") // by the will
}

func TestRetainedPolicies(t *testing.T) {
	s := newSystem(t, `
  - { name: once, filter: keep/once, group: 239.1.1.1:5000, source: 172.17.0.1, retained: once }
  - { name: always, filter: keep/always, group: 239.1.1.2:5000, source: 172.17.0.1, retained: always }
  - { name: never, filter: keep/never, group: 239.1.1.3:5000, source: 172.17.0.1, retained: never }
  - { name: last, filter: mark, group: 239.1.1.4:5000, source: 172.17.0.1 }
`)
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.1.1:5000"), netip.MustParseAddrPort("239.1.1.2:5000"),
		netip.MustParseAddrPort("239.1.1.3:5000"), netip.MustParseAddrPort("239.1.1.4:5000"))
	s.startBroker()
	publisher := s.client("backend")
	all := func(payload string) {
		t.Helper()
		for _, policy := range []string{"once", "always", "never"} {
			s.publishRetained(publisher, "keep/"+policy, []byte(payload))
		}
	}
	names := map[string]string{"239.1.1.1:5000": "once", "239.1.1.2:5000": "always", "239.1.1.3:5000": "never"}
	seen := 0
	// expect waits for everything that the broker has sent so far to be through,
	// and compares what the device has received since the last time, by rule.
	expect := func(when string, want map[string]string) {
		t.Helper()
		s.publish(publisher, "mark", []byte(when))
		got := map[string]string{}
		device.Watch(func(r netlab.Received) bool { return string(r.Payload) == when })
		for _, r := range device.Received()[seen:] {
			seen++
			if string(r.Payload) == when {
				break
			}
			if name, ok := names[r.Group.String()]; ok {
				got[name] += string(r.Payload)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the device received (-want +got):\n%s", when, diff)
		}
	}
	// reconnect has the broker end the bridge's connection, as it must when
	// another client comes with the same name [MQTT-3.1.4-2].
	reconnect := func() {
		t.Helper()
		before := s.status().Broker.Connects
		s.client(gatewayID, func(o *mqtt.ClientOptions) { o.SetCleanSession(false) }).Disconnect(0)
		s.eventually("the bridge has connected again", func() error {
			if b := s.status().Broker; b.Connects <= before || !b.Connected || b.Subscriptions == 0 {
				return fmt.Errorf("%d connects, connected %t", b.Connects, b.Connected)
			}
			return nil
		})
		s.ready()
	}

	all("1")
	s.startBridge()
	s.ready()
	expect("kept before the first connection", map[string]string{"once": "1", "always": "1"})
	reconnect()
	expect("the same after a reconnection", map[string]string{"always": "1"})
	all("2")
	expect("published while connected", map[string]string{"once": "2", "always": "2", "never": "2"})
	reconnect()
	expect("that again after a reconnection", map[string]string{"always": "2"})
	if got := s.rule("once").Filtered["retained"]; got != 2 {
		t.Errorf("rule once: %d dropped as retained, want 2", got)
	}
	if got := s.rule("never").Filtered["retained"]; got != 0 { // with MQTT 5 they are not asked for
		t.Errorf("rule never: %d dropped as retained, want 0", got)
	}
}
