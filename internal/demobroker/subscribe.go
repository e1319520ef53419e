package demobroker

import (
	"math"
	"strings"

	"github.com/eclipse/paho.golang/packets"

	"topicast/mapping"
)

// When retained messages are sent for a subscription (Retain Handling, section 3.8.3.1).
const (
	retainedIfNew = 1
	retainedNever = 2
)

type subscription struct {
	filter            mapping.Filter
	qos               byte
	noLocal           bool
	retainAsPublished bool
	identifier        int // 0: none
}

// checkSubscribe checks what is wrong with all of a SUBSCRIBE.
func checkSubscribe(p *packets.Subscribe) error {
	if p.PacketID == 0 {
		return &fault{protocolError, "packet identifier 0 [MQTT-2.2.1-3]"}
	}
	if len(p.Subscriptions) == 0 {
		return &fault{protocolError, "SUBSCRIBE without a filter [MQTT-3.8.3-2]"}
	}
	const largest = 268_435_455
	if id := p.Properties.SubscriptionIdentifier; id != nil && (*id < 1 || *id > largest) {
		return &fault{protocolError, "SUBSCRIBE with an identifier out of range"}
	}
	for _, o := range p.Subscriptions {
		if o.QoS > 2 || o.RetainHandling > retainedNever {
			return &fault{protocolError, "SUBSCRIBE with a QoS or a Retain Handling above 2 [MQTT-3.8.3-5]"}
		}
	}
	return nil
}

// subscribe adds subscriptions, answers, and delivers what is retained for them.
func (b *Broker) subscribe(c *client, p *packets.Subscribe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ack := &packets.Suback{PacketID: p.PacketID, Properties: new(packets.Properties)}
	identifier := 0
	if id := p.Properties.SubscriptionIdentifier; id != nil {
		identifier = *id
	}
	var wanted []subscription // that retained messages are sent for
	for _, o := range p.Subscriptions {
		_, known := c.subscriptions[o.Topic]
		s, code := c.subscribe(o, identifier)
		ack.Reasons = append(ack.Reasons, code)
		if code < refusesFrom && o.RetainHandling != retainedNever && !(o.RetainHandling == retainedIfNew && known) {
			wanted = append(wanted, s)
		}
	}
	c.send(ack)
	for _, s := range wanted {
		for topic, m := range b.retained {
			switch {
			case m.expired():
				delete(b.retained, topic)
			case s.filter.Match(topic) && !(s.noLocal && m.from == c.id):
				c.deliver(m, delivery{s.qos, true, s.identifier}) // [MQTT-3.3.1-8]
			}
		}
	}
}

// subscribe adds a subscription, or replaces the one with the same filter
// [MQTT-3.8.4-3]. It returns the reason code. Callers hold Broker.mu.
func (c *client) subscribe(o packets.SubOptions, identifier int) (s subscription, code byte) {
	if _, five := c.codec.(codec5); five && strings.HasPrefix(o.Topic, "$share/") {
		return s, noShared
	}
	filter, err := mapping.ParseFilter(o.Topic)
	if err != nil || filter.MQTT() != o.Topic { // {name} is a capture to topicast, and text to MQTT
		return s, badFilter
	}
	if _, known := c.subscriptions[o.Topic]; !known && len(c.subscriptions) == maxFilters {
		return s, quotaExceeded
	}
	s = subscription{filter, o.QoS, o.NoLocal, o.RetainAsPublished, identifier}
	c.subscriptions[o.Topic] = s
	return s, o.QoS
}

func (b *Broker) unsubscribe(c *client, p *packets.Unsubscribe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ack := &packets.Unsuback{PacketID: p.PacketID, Properties: new(packets.Properties)}
	for _, filter := range p.Topics {
		code := byte(noSubscription)
		if _, known := c.subscriptions[filter]; known {
			code = 0
		}
		delete(c.subscriptions, filter)
		ack.Reasons = append(ack.Reasons, code)
	}
	c.send(ack)
}

// deliver queues a message, or keeps it until the client takes one more of QoS 1 or 2.
// Callers hold Broker.mu.
func (c *client) deliver(m *message, o delivery) {
	if min(m.qos, o.qos) == 0 {
		c.write(m, o)
		return
	}
	switch {
	case len(c.inFlight)+len(c.waiting) == math.MaxUint16: // it acknowledges nothing
		c.dismiss(quotaExceeded)
	case len(c.inFlight) >= c.receiveMaximum || len(c.waiting) > 0: // [MQTT-3.3.4-9]
		c.waiting = append(c.waiting, waiting{m, o})
	default:
		c.write(m, o)
	}
}

// A waiting is a message that a client does not take yet.
type waiting struct {
	*message
	how delivery
}

// acknowledged frees the packet identifier of a message that a client has taken, and
// gives it what waits for that.
func (b *Broker) acknowledged(c *client, id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(c.inFlight, id)
	for len(c.waiting) > 0 && len(c.inFlight) < c.receiveMaximum {
		next := c.waiting[0]
		c.waiting[0] = waiting{}
		c.waiting = c.waiting[1:]
		if !next.expired() {
			c.write(next.message, next.how)
		}
	}
}

// isInFlight reports whether a message with an identifier is not acknowledged.
func (b *Broker) isInFlight(c *client, id uint16) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return c.inFlight[id]
}

// write queues a message, unless it is larger than the client takes: then it counts as
// delivered [MQTT-3.1.2-25]. Callers hold Broker.mu.
func (c *client) write(m *message, o delivery) {
	p := m.packet(o)
	if c.maxPacket > 0 && size(p) > c.maxPacket {
		return
	}
	if p.QoS > 0 {
		for c.lastID++; c.lastID == 0 || c.inFlight[c.lastID]; c.lastID++ {
		}
		p.PacketID = c.lastID
		c.inFlight[p.PacketID] = true
	}
	c.send(p)
}

// size is how many bytes a packet of MQTT 5 has.
func size(p packets.Packet) int {
	n := 0
	for _, b := range p.Buffers() {
		n += len(b)
	}
	head := 2
	for rest := n >> 7; rest > 0; rest >>= 7 {
		head++
	}
	return head + n
}
