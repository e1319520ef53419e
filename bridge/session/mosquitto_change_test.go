package session

import (
	"fmt"
	"os"
	"slices"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
)

// What stays loses nothing while all around it changes.
func TestMosquittoAChangeCostsTheOthersNothing(t *testing.T) {
	const changes = 100
	port := mosquitto(t, open)
	publish := publisher(t, port)
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, Subscriptions: []Subscription{{Filter: "stays", QoS: 1}, {Filter: "old/0", QoS: 1}}})
	c.reached("subscribed", allActive)
	for i := range changes {
		wait(t, publish("stays", fmt.Sprint(3*i)))
		c.set(Subscription{Filter: fmt.Sprint("old/", i+1), QoS: 1}, Subscription{Filter: "stays", QoS: 1})
		token := publish("stays", fmt.Sprint(3*i+1))
		wait(t, publish("stays", fmt.Sprint(3*i+2)))
		wait(t, token)
	}
	for i, m := range c.messages(3 * changes) {
		if string(m.Topic) != "stays" || string(m.Payload) != fmt.Sprint(i) || m.Dup {
			t.Fatalf("message %d: %s %s, dup %v", i, m.Topic, m.Payload, m.Dup)
		}
	}
}

// A filter that an overlapping one replaces loses nothing.
func TestMosquittoAReplacedFilterLosesNothing(t *testing.T) {
	const changes = 60
	port := mosquitto(t, open)
	publish := publisher(t, port)
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, Subscriptions: []Subscription{{Filter: "site/+/set", QoS: 1}}})
	c.reached("subscribed", allActive)
	wide := []Subscription{{Filter: "site/#", QoS: 1}, {Filter: "site/+/set", QoS: 1}, {Filter: "site/7/set", QoS: 1}}
	for i := range changes {
		c.set(wide[i%len(wide)])
		wait(t, publish("site/7/set", fmt.Sprint(i)))
	}
	c.until("all arrived", func() bool {
		seen := map[string]bool{}
		for _, m := range c.got {
			seen[string(m.Payload)] = true
		}
		return len(seen) == changes
	})
}

// What was unsubscribed sends nothing more: not at once, not after a reconnect, and
// not when it was unsubscribed without a connection.
func TestMosquittoSendsNothingOfWhatIsGone(t *testing.T) {
	broker := newMosquitto(t, "persistence true\nautosave_interval 1\nautosave_on_changes true\n"+open)
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + broker.port}, ClientID: "gateway",
		Subscriptions: []Subscription{{Filter: "stays", QoS: 1}, {Filter: "goes/1", QoS: 1}, {Filter: "goes/2", QoS: 1}}})
	c.reached("subscribed", allActive)
	round := 0
	only := func(topics ...string) {
		t.Helper()
		round++
		o := mqtt.NewClientOptions().AddBroker("mqtt://127.0.0.1:" + broker.port).SetClientID("publisher").SetAutoReconnect(false)
		publisher := mqtt.NewClient(o)
		wait(t, publisher.Connect())
		for _, topic := range []string{"goes/1", "goes/2", "stays"} { // in this order: the last is the proof
			wait(t, publisher.Publish(topic, 1, false, fmt.Sprint(round)))
		}
		publisher.Disconnect(250)
		var got []string // of this round: the broker may repeat what came before its restart
		c.until("the last message", func() bool {
			got = nil
			for _, m := range c.got {
				if string(m.Payload) == fmt.Sprint(round) {
					got = append(got, string(m.Topic))
				}
			}
			return slices.Contains(got, "stays")
		})
		if diff := cmp.Diff(topics, got); diff != "" {
			t.Error(diff)
		}
	}
	// wrote waits until the broker has answered all that the session asked.
	settled := func(connects int) {
		t.Helper()
		c.until("settled", func() bool {
			c.Session.mu.Lock()
			defer c.Session.mu.Unlock()
			for _, sub := range c.subs.wanted {
				if !sub.Active {
					return false
				}
			}
			return len(c.subs.obsolete) == 0 && c.state.Connected && c.state.Connects == connects
		})
	}
	only("goes/1", "goes/2", "stays")
	c.set(Subscription{Filter: "stays", QoS: 1}, Subscription{Filter: "goes/2", QoS: 1})
	settled(1)
	only("goes/2", "stays")
	broker.stop(os.Interrupt)
	c.until("lost", func() bool { return !c.State().Connected })
	broker.start()
	settled(2)
	if !c.State().SessionPresent {
		t.Error("the session is gone")
	}
	only("goes/2", "stays")
	broker.stop(os.Interrupt)
	c.until("lost", func() bool { return !c.State().Connected })
	c.set(Subscription{Filter: "stays", QoS: 1})
	broker.start()
	settled(3)
	only("stays")
}
