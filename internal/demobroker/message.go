package demobroker

import (
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// A message is one that was published. It does not change.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	props   packets.Properties
	from    string    // the identifier of the client
	expires time.Time // zero: never
}

// newMessage takes the message of a client, or its will.
func newMessage(from string, p *packets.Publish) *message {
	m := &message{topic: p.Topic, payload: p.Payload, qos: p.QoS, retain: p.Retain, from: from}
	if p.Properties != nil {
		m.props = *p.Properties
	}
	if e := m.props.MessageExpiry; e != nil {
		m.expires = time.Now().Add(time.Duration(*e) * time.Second)
	}
	return m
}

func (m *message) expired() bool { return !m.expires.IsZero() && !time.Now().Before(m.expires) }

// packet is what is sent to a client of it.
func (m *message) packet(o delivery) *packets.Publish {
	p := &packets.Publish{Topic: m.topic, Payload: m.payload, QoS: min(m.qos, o.qos), Retain: o.retain}
	props := m.props
	if !m.expires.IsZero() { // less what it has waited here [MQTT-3.3.2-6]
		props.MessageExpiry = new(uint32(max(0, time.Until(m.expires)+time.Second-1) / time.Second))
	}
	if o.identifier > 0 {
		props.SubscriptionIdentifier = &o.identifier
	}
	p.Properties = &props
	return p
}

// A delivery is how a message goes to a client: by the subscriptions that match it.
type delivery struct {
	qos        byte
	retain     bool
	identifier int // of the subscriptions; 0: they have none
}

// deliveries are those of a message to a client: one for each identifier that its
// subscriptions have, with the highest QoS among those [MQTT-3.3.4-2]. Callers hold
// Broker.mu.
func (c *client) deliveries(m *message) (list []delivery) {
next:
	for _, s := range c.subscriptions {
		if !s.filter.Match(m.topic) || s.noLocal && m.from == c.id { // [MQTT-3.8.3-3]
			continue
		}
		d := delivery{s.qos, m.retain && s.retainAsPublished, s.identifier} // [MQTT-3.3.1-12]
		for i, other := range list {
			if other.identifier == d.identifier {
				list[i].qos, list[i].retain = max(other.qos, d.qos), other.retain || d.retain
				continue next
			}
		}
		list = append(list, d)
	}
	return list
}
