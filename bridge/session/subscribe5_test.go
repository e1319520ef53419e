package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// What is asked for with a filter: its quality of service, whether retained messages are to come, and its
// identifier, which a packet has for all of its filters; none where the broker has said that it has none.
func TestSubscribeOfMQTT5(t *testing.T) {
	subs := []Subscription{{Filter: "a", QoS: 2, NoRetained: true}, {Filter: "b", QoS: 1, NoLocal: true}, {Filter: "c/+", ID: 7}, {Filter: "+/d", ID: 1 << 27}}
	for name, c := range map[string]struct {
		props []byte
		want  []string
	}{
		"with identifiers": {nil, []string{"0 [a 2 2 false] [b 1 0 true]", "7 [c/+ 0 0 false]", "134217728 [+/d 0 0 false]"}},
		"without":          {[]byte{0x29, 0}, []string{"0 [a 2 2 false] [b 1 0 true]", "0 [c/+ 0 0 false]", "0 [+/d 0 0 false]"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c2 := start5(t, b, Options{Subscriptions: subs})
				p := b.greet5(c.props...)
				for _, want := range c.want {
					s := p.suback5(2)
					id := 0
					if v := s.Properties.SubscriptionIdentifier; v != nil {
						id = *v
					}
					got := fmt.Sprint(id)
					for _, o := range s.Subscriptions {
						got += fmt.Sprintf(" [%s %d %d %t]", o.Topic, o.QoS, o.RetainHandling, o.NoLocal)
					}
					if got != want {
						t.Errorf("asked for %s, want %s", got, want)
					}
				}
				synctest.Wait()
				if s := c2.State(); s.Active != 4 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A filter that the broker does not let go of is told of once, and not asked for again and again.
func TestAnUnsubscribeThatIsRefusedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "a", QoS: 1}, {Filter: "b", QoS: 1}}})
		p := b.greet5()
		p.suback5(1)
		c.reached("connected", connected)
		c.set(Subscription{Filter: "b", QoS: 1})
		u := expect5[*packets.Unsubscribe](p)
		p.send(frame(0xb0, append(append([]byte{byte(u.PacketID >> 8), byte(u.PacketID)}, withLength(text5(0x1f, "mine"))...), 0x87)...))
		time.Sleep(time.Hour)
		if log := c.log.String(); strings.Count(log, "does not let go") != 1 || !strings.Contains(log, `filter=a err="not authorized (0x87): \"mine\""`) {
			t.Errorf("log: %s", log)
		}
		for len(p.in5) > 0 {
			if cp := <-p.in5; cp.Type == packets.UNSUBSCRIBE {
				t.Error("it is unsubscribed again")
			}
		}
	})
}

func TestARefusedFilterIsNamedWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "a", QoS: 1}}})
		p := b.greet5()
		p.suback5(0x97, text5(0x1f, "five are enough")...)
		synctest.Wait()
		s := c.State()
		if len(s.Troubled) != 1 || s.Troubled[0].Err != `refused by the broker: quota exceeded (0x97): "five are enough"` || s.Active != 0 {
			t.Errorf("%+v", s)
		}
		if log := c.log.String(); !strings.Contains(log, "five are enough") {
			t.Errorf("log: %s", log)
		}
		p.suback5(1) // it is asked for again
		synctest.Wait()
		if s := c.State(); s.Active != 1 || len(s.Troubled) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// One that says that something of ours is not allowed is a broker that closes the connection over
// it, as those of MQTT 3.1.1 do without a word.
func TestAnEndOverAFilterIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "good", QoS: 1}, {Filter: "bad", QoS: 1}}})
		for range 40 {
			p := b.accept5()
			if cp := <-p.in5; cp == nil {
				continue
			}
			p.send(connack5(false, 0))
			for cp := range p.in5 {
				s, ok := cp.Content.(*packets.Subscribe)
				if !ok {
					continue
				}
				if slices.ContainsFunc(s.Subscriptions, func(o packets.SubOptions) bool { return o.Topic == "bad" }) {
					p.send(frame(0xe0, 0x87))
					break
				}
				p.send(frame(0x90, byte(s.PacketID>>8), byte(s.PacketID), 0, 1))
				for range 40 {
					if time.Sleep(time.Second); len(p.in5) > 0 {
						break
					}
				}
				if s := c.State(); s.Connected && s.Active == 1 && len(s.Troubled) == 1 {
					return
				}
			}
		}
		t.Errorf("never: %+v", c.State())
	})
}

func TestTheLogSaysWhatABrokerTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{})
		b.greet5(slices.Concat(text5(0x12, "auto-7"), []byte{0x11, 0, 0, 0x0e, 0x10, 0x21, 0, 20, 0x27, 0, 1, 0, 0, 0x24, 1, 0x25, 0, 0x13, 0, 40})...)
		synctest.Wait()
		const want = "protocol=5 client_id=auto-7 session_expiry=1h0m0s receive_maximum=20 maximum_packet_size=65536 maximum_qos=1 retain_available=false server_keep_alive=40s"
		if log := c.log.String(); !strings.Contains(log, want) {
			t.Errorf("log %s, want %s", log, want)
		}
		text, _ := json.Marshal(c.State().Limits)
		if got, want := string(text), `{"receive_maximum":20,"maximum_packet_size":65536,"maximum_qos":1,"retain_available":false,"server_keep_alive":40,"session_expiry_interval":3600}`; got != want {
			t.Errorf("limits %s, want %s", got, want)
		}
	})
}

// What the broker has said that it cannot do is not asked for: that would end the connection.
func TestWhatABrokerCannotDoIsNotAskedFor(t *testing.T) {
	subs := []Subscription{{Filter: "a", QoS: 1}, {Filter: "$share/gw/b", QoS: 1}, {Filter: "c/#", QoS: 1}}
	for name, c := range map[string]struct {
		props  []byte
		asked  []string
		refuse string
	}{
		"no shared subscriptions": {[]byte{0x2a, 0}, []string{"a", "c/#"}, "$share/gw/b refused by the broker: shared subscriptions not supported (0x9E)"},
		"no wildcards":            {[]byte{0x28, 0}, []string{"a", "$share/gw/b"}, "c/# refused by the broker: wildcard subscriptions not supported (0xA2)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c2 := start5(t, b, Options{Subscriptions: subs})
				p := b.greet5(c.props...)
				var asked []string
				for _, o := range p.suback5(1).Subscriptions {
					asked = append(asked, o.Topic)
				}
				if !slices.Equal(asked, c.asked) {
					t.Errorf("asked for %q, want %q", asked, c.asked)
				}
				time.Sleep(time.Hour) // what is refused is asked for again, and this is not
				if n := len(p.in5); n > 0 && !onlyPings(p) {
					t.Errorf("%d packets more", n)
				}
				s := c2.State()
				text, _ := json.Marshal(s.Limits)
				if want := fmt.Sprintf(`{"%s_subscription_available":false}`, map[byte]string{0x28: "wildcard", 0x2a: "shared"}[c.props[0]]); string(text) != want {
					t.Errorf("limits %s, want %s", text, want)
				}
				if len(s.Troubled) != 1 || s.Troubled[0].Filter+" "+s.Troubled[0].Err != c.refuse || s.Active != 2 || !s.Connected {
					t.Errorf("%+v, want %s", s, c.refuse)
				}
			})
		})
	}
}

// onlyPings reports whether nothing but PINGREQ has come.
func onlyPings(p *peer5) bool {
	for range len(p.in5) {
		if cp := <-p.in5; cp.Type != packets.PINGREQ {
			return false
		}
	}
	return true
}

// A broker of MQTT 3.1.1 may take a shared subscription for a topic, and nothing comes by it.
func TestASharedSubscriptionWithMQTT311IsTold(t *testing.T) {
	const told = "shared subscriptions are of MQTT 5"
	for filter, want := range map[string]int{"$share/gw/b": 1, "share/gw/b": 0} {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: filter, QoS: 1}}}, b.use)
			for range 2 {
				p := b.greet(false, 1)
				synctest.Wait()
				_ = p.Close()
				synctest.Wait()
			}
			if n := strings.Count(c.log.String(), told); n != want {
				t.Errorf("%s: told %d times, want %d", filter, n, want)
			}
		})
	}
}
