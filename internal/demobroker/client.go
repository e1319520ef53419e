package demobroker

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/mapping"
)

// A client is one connection.
type client struct {
	broker *Broker
	conn   net.Conn
	queue  chan packets.ControlPacket // for the goroutine that writes
	read   chan struct{}              // closed when the goroutine that reads has ended
	wrote  chan struct{}              // closed when the one that writes has

	// of the goroutine that reads
	id       string          // not changed once the broker knows it
	received map[uint16]bool // packet identifiers of QoS 2 messages whose PUBREL has not come

	// guarded by Broker.mu, once the broker knows the identifier
	will          *packets.PublishPacket
	subscriptions map[string]subscription
	inFlight      map[uint16]bool // packet identifiers of messages not acknowledged
	lastID        uint16
}

type subscription struct {
	filter mapping.Filter
	qos    byte
}

func newClient(b *Broker, conn net.Conn) *client {
	return &client{
		broker: b, conn: conn,
		queue: make(chan packets.ControlPacket, queueLength),
		read:  make(chan struct{}), wrote: make(chan struct{}),
		received: map[uint16]bool{}, subscriptions: map[string]subscription{}, inFlight: map[uint16]bool{},
	}
}

// reader handles what the client sends until the connection ends.
func (c *client) reader() {
	defer close(c.read)
	defer c.broker.leave(c)
	r := bufio.NewReader(c.conn)
	_ = c.conn.SetReadDeadline(time.Now().Add(connectTimeout))
	keepAlive, err := c.connect(r)
	for err == nil {
		var deadline time.Time
		if keepAlive > 0 {
			deadline = time.Now().Add(keepAlive + keepAlive/2) // [MQTT-3.1.2-24]
		}
		_ = c.conn.SetReadDeadline(deadline)
		var p packets.ControlPacket
		if p, err = readPacket(r); err == nil {
			err = c.handle(p)
		}
	}
}

// readPacket reads a control packet, once its fixed header is found in order: the
// codec looks at neither flags nor size.
func readPacket(r *bufio.Reader) (packets.ControlPacket, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	flags := head[0] & 0x0f
	switch kind := head[0] >> 4; kind {
	case packets.Publish:
		if qos := flags >> 1 & 3; qos == 3 {
			return nil, errors.New("QoS 3 [MQTT-3.3.1-4]")
		}
	case packets.Pubrel, packets.Subscribe, packets.Unsubscribe:
		flags ^= 2
		fallthrough
	default:
		if flags != 0 {
			return nil, fmt.Errorf("flags of %s [MQTT-2.2.2-2]", packets.PacketNames[kind])
		}
	}
	length := 0
	for i := 1; ; i++ {
		if head, err = r.Peek(i + 1); err != nil {
			return nil, err
		}
		length |= int(head[i]&0x7f) << (7 * (i - 1))
		if length > maxPacket || i == 4 && head[i] > 0x7f {
			return nil, fmt.Errorf("packet of more than %d bytes", maxPacket)
		}
		if head[i] <= 0x7f {
			return packets.ReadPacket(r)
		}
	}
}

// connect reads CONNECT and answers it.
func (c *client) connect(r *bufio.Reader) (keepAlive time.Duration, err error) {
	p, err := readPacket(r)
	connect, ok := p.(*packets.ConnectPacket)
	if !ok {
		return 0, errors.New("no CONNECT [MQTT-3.1.0-1]")
	}
	// The version stands first, so it is known of a packet that another version
	// made and that cannot be read to its end.
	if code := connect.Validate(); code != packets.Accepted {
		if code < packets.ErrNetworkError {
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			_ = (&packets.ConnackPacket{FixedHeader: header(packets.Connack), ReturnCode: code}).Write(c.conn)
		}
		return 0, packets.ConnErrors[code]
	}
	if err != nil {
		return 0, err
	}
	c.id = connect.ClientIdentifier
	if c.id == "" {
		c.id = "unnamed-" + rand.Text()
	}
	if !utf8.ValidString(c.id) || strings.Contains(c.id, "\x00") {
		return 0, errors.New("client identifier is no UTF-8 text [MQTT-1.5.3-1]")
	}
	if connect.WillFlag {
		c.will = &packets.PublishPacket{FixedHeader: header(packets.Publish), TopicName: connect.WillTopic, Payload: connect.WillMessage}
		c.will.Qos, c.will.Retain = connect.WillQos, connect.WillRetain
		if err := mapping.CheckTopic(connect.WillTopic); err != nil || connect.WillQos > 2 {
			return 0, errors.New("bad will")
		}
	}
	c.broker.join(c)
	return time.Duration(connect.Keepalive) * time.Second, nil
}

// handle acts on a packet after CONNECT. The connection ends with an error.
func (c *client) handle(p packets.ControlPacket) error {
	switch p := p.(type) {
	case *packets.PublishPacket:
		return c.publish(p)
	case *packets.PubrelPacket:
		delete(c.received, p.MessageID)
		c.send(&packets.PubcompPacket{FixedHeader: header(packets.Pubcomp), MessageID: p.MessageID})
	case *packets.PubackPacket:
		c.broker.acknowledged(c, p.MessageID)
	case *packets.PubrecPacket:
		rel := &packets.PubrelPacket{FixedHeader: header(packets.Pubrel), MessageID: p.MessageID}
		rel.Qos = 1 // the flags of a PUBREL [MQTT-3.6.1-1]
		c.send(rel)
	case *packets.PubcompPacket:
		c.broker.acknowledged(c, p.MessageID)
	case *packets.SubscribePacket:
		for _, qos := range p.Qoss {
			if qos > 2 {
				return errors.New("SUBSCRIBE with a QoS above 2 [MQTT-3.8.3-4]")
			}
		}
		if len(p.Topics) == 0 {
			return errors.New("SUBSCRIBE without a filter [MQTT-3.8.3-3]")
		}
		c.broker.subscribe(c, p)
	case *packets.UnsubscribePacket:
		c.broker.unsubscribe(c, p)
	case *packets.PingreqPacket:
		c.send(&packets.PingrespPacket{FixedHeader: header(packets.Pingresp)})
	case *packets.DisconnectPacket:
		c.broker.forgetWill(c)
		return errors.New("disconnected")
	default:
		return fmt.Errorf("unexpected %s", p)
	}
	return nil
}

// publish takes a message, once if it is of QoS 2 [MQTT-4.3.3-2], and acknowledges
// it when it is in the queues of its subscribers.
func (c *client) publish(p *packets.PublishPacket) error {
	if err := mapping.CheckTopic(p.TopicName); err != nil {
		return err
	}
	if p.Qos > 0 && p.MessageID == 0 {
		return errors.New("packet identifier 0 [MQTT-2.3.1-1]")
	}
	if p.Qos < 2 || !c.received[p.MessageID] {
		c.broker.publish(p)
	}
	switch p.Qos {
	case 1:
		c.send(&packets.PubackPacket{FixedHeader: header(packets.Puback), MessageID: p.MessageID})
	case 2:
		c.received[p.MessageID] = true
		c.send(&packets.PubrecPacket{FixedHeader: header(packets.Pubrec), MessageID: p.MessageID})
	}
	return nil
}

// subscribe adds a subscription, or replaces the one with the same filter
// [MQTT-3.8.4-3]. Callers hold Broker.mu.
func (c *client) subscribe(text string, qos byte) (subscription, error) {
	filter, err := mapping.ParseFilter(text)
	if err == nil && filter.MQTT() != text { // {name} is a capture to topicast, and text to MQTT
		err = errors.New("braces")
	}
	if _, known := c.subscriptions[text]; err == nil && !known && len(c.subscriptions) == maxFilters {
		err = errors.New("too many subscriptions")
	}
	s := subscription{filter, qos}
	if err == nil {
		c.subscriptions[text] = s
	}
	return s, err
}

// matches returns the highest QoS among the subscriptions that match a topic
// [MQTT-3.3.5-1]. Callers hold Broker.mu.
func (c *client) matches(topic string) (qos byte, ok bool) {
	for _, s := range c.subscriptions {
		if s.filter.Match(topic) {
			qos, ok = max(qos, s.qos), true
		}
	}
	return qos, ok
}

// deliver queues a message. Callers hold Broker.mu.
func (c *client) deliver(m *packets.PublishPacket, qos byte, retained bool) {
	own := m.Copy()
	own.Retain = retained
	if own.Qos = min(qos, m.Qos); own.Qos > 0 {
		if len(c.inFlight) == math.MaxUint16 { // it acknowledges nothing
			_ = c.conn.Close()
			return
		}
		for c.lastID++; c.lastID == 0 || c.inFlight[c.lastID]; c.lastID++ {
		}
		own.MessageID = c.lastID
		c.inFlight[own.MessageID] = true
	}
	c.send(own)
}

// send queues a packet. Where the queue is full it waits for the writer, which ends
// the connection of a client that does not read.
func (c *client) send(p packets.ControlPacket) {
	select {
	case c.queue <- p:
	case <-c.wrote:
	}
}

// writer writes what is queued, until the connection ends or the reader has ended
// and nothing is left, and closes the connection.
func (c *client) writer() {
	defer close(c.wrote)
	defer c.conn.Close()
	w := bufio.NewWriter(c.conn)
	for {
		select {
		case p := <-c.queue:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			err := p.Write(w)
			if err == nil && len(c.queue) == 0 {
				err = w.Flush()
			}
			if err != nil {
				return
			}
		case <-c.read:
			if len(c.queue) == 0 {
				return
			}
		}
	}
}

func header(kind byte) packets.FixedHeader { return packets.FixedHeader{MessageType: kind} }
