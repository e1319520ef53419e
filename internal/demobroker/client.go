package demobroker

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	"topicast/mapping"
)

// A client is one connection.
type client struct {
	broker *Broker
	conn   net.Conn
	queue  chan packets.Packet // for the goroutine that writes
	read   chan struct{}       // closed when the goroutine that reads has ended
	wrote  chan struct{}       // closed when the one that writes has

	// of the goroutine that reads
	received map[uint16]bool // packet identifiers of QoS 2 messages whose PUBREL has not come

	// set by it before the broker knows the identifier, and not changed then
	id             string
	codec          codec
	receiveMaximum int // messages of QoS 1 and 2 that it takes at once
	maxPacket      int // bytes of a packet that it takes; 0: any

	// guarded by Broker.mu, once the broker knows the identifier
	will          *packets.Publish
	subscriptions map[string]subscription
	inFlight      map[uint16]bool // packet identifiers of messages not acknowledged
	waiting       []waiting       // messages of QoS 1 and 2 beyond receiveMaximum
	lastID        uint16
}

func newClient(b *Broker, conn net.Conn) *client {
	return &client{
		broker: b, conn: conn,
		queue: make(chan packets.Packet, queueLength),
		read:  make(chan struct{}), wrote: make(chan struct{}),
		received: map[uint16]bool{}, subscriptions: map[string]subscription{}, inFlight: map[uint16]bool{},
		receiveMaximum: math.MaxUint16,
	}
}

// reader handles what the client sends until the connection ends.
func (c *client) reader() {
	defer close(c.read)
	defer c.broker.leave(c)
	r := bufio.NewReader(c.conn)
	_ = c.conn.SetReadDeadline(time.Now().Add(connectTimeout))
	keepAlive, err := c.connect(r)
	if err != nil {
		return
	}
	for err == nil {
		var deadline time.Time
		if keepAlive > 0 {
			deadline = time.Now().Add(keepAlive + keepAlive/2) // [MQTT-3.1.2-22]
		}
		_ = c.conn.SetReadDeadline(deadline)
		var frame []byte
		if frame, err = readFrame(r); err != nil {
			break
		}
		var p packets.Packet
		if p, err = c.codec.read(frame); err == nil {
			err = c.handle(p)
		}
	}
	if f, ok := errors.AsType[*fault](err); ok {
		c.dismiss(f.code)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.dismiss(keepAliveOver)
	}
}

// connect reads CONNECT and answers it.
func (c *client) connect(r *bufio.Reader) (keepAlive time.Duration, err error) {
	frame, err := readFrame(r)
	if err != nil {
		return 0, err
	}
	c.codec = codecOf(frame)
	p, err := c.codec.connect(frame)
	if err == nil {
		err = c.introduce(p)
	}
	if err != nil {
		if f, ok := errors.AsType[*fault](err); ok {
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			_ = c.codec.write(c.conn, &packets.Connack{ReasonCode: f.code, Properties: new(packets.Properties)})
		}
		return 0, err
	}
	c.broker.join(c, c.accept(p))
	return time.Duration(p.KeepAlive) * time.Second, nil
}

// introduce notes what a CONNECT says of the client.
func (c *client) introduce(p *packets.Connect) error {
	c.id = p.ClientID
	if c.id == "" {
		c.id = "unnamed-" + rand.Text()
	}
	if !utf8.ValidString(c.id) || strings.Contains(c.id, "\x00") {
		return &fault{malformed, "client identifier is no UTF-8 text [MQTT-1.5.4-1]"}
	}
	if v := p.Properties.ReceiveMaximum; v != nil {
		c.receiveMaximum = int(*v)
	}
	if v := p.Properties.MaximumPacketSize; v != nil {
		c.maxPacket = int(*v)
	}
	if p.WillFlag {
		c.will = &packets.Publish{Topic: p.WillTopic, Payload: p.WillMessage, QoS: p.WillQOS, Retain: p.WillRetain, Properties: p.WillProperties}
		if err := mapping.CheckTopic(p.WillTopic); err != nil || p.WillQOS > 2 {
			return &fault{badTopic, "bad will"}
		}
	}
	return nil
}

// accept is the CONNACK of a client that is let in: how this broker is not as MQTT 5 has
// it by default.
func (c *client) accept(p *packets.Connect) *packets.Connack {
	props := &packets.Properties{MaximumPacketSize: new(uint32(maxPacket)), SharedSubAvailable: new(byte(0))}
	if p.ClientID == "" {
		props.AssignedClientID = c.id // [MQTT-3.1.3-7]
	}
	if v := p.Properties.SessionExpiryInterval; v != nil && *v > 0 {
		props.SessionExpiryInterval = new(uint32(0))
	}
	return &packets.Connack{Properties: props}
}

var errDisconnected = errors.New("disconnected")

// handle acts on a packet after CONNECT. The connection ends with an error.
func (c *client) handle(p packets.Packet) error {
	switch p := p.(type) {
	case *packets.Publish:
		return c.publish(p)
	case *packets.Pubrel:
		comp := &packets.Pubcomp{PacketID: p.PacketID}
		if !c.received[p.PacketID] {
			comp.ReasonCode = unknownID
		}
		delete(c.received, p.PacketID)
		c.send(comp)
	case *packets.Puback:
		c.broker.acknowledged(c, p.PacketID)
	case *packets.Pubrec:
		if p.ReasonCode >= refusesFrom { // that is its end [MQTT-4.3.3-4]
			c.broker.acknowledged(c, p.PacketID)
			return nil
		}
		rel := &packets.Pubrel{PacketID: p.PacketID}
		if !c.broker.isInFlight(c, p.PacketID) {
			rel.ReasonCode = unknownID
		}
		c.send(rel)
	case *packets.Pubcomp:
		c.broker.acknowledged(c, p.PacketID)
	case *packets.Subscribe:
		if err := checkSubscribe(p); err != nil {
			return err
		}
		c.broker.subscribe(c, p)
	case *packets.Unsubscribe:
		if p.PacketID == 0 {
			return &fault{protocolError, "packet identifier 0 [MQTT-2.2.1-3]"}
		}
		c.broker.unsubscribe(c, p)
	case *packets.Pingreq:
		c.send(new(packets.Pingresp))
	case *packets.Disconnect:
		if p.ReasonCode != withWillMessage {
			c.broker.forgetWill(c)
		}
		return errDisconnected
	default:
		return &fault{protocolError, fmt.Sprintf("unexpected %T", p)}
	}
	return nil
}

// publish takes a message, once if it is of QoS 2 [MQTT-4.3.3-10], and acknowledges
// it when it is in the queues of its subscribers.
func (c *client) publish(p *packets.Publish) error {
	if err := mapping.CheckTopic(p.Topic); err != nil {
		return &fault{badTopic, err.Error()}
	}
	if p.QoS > 0 && p.PacketID == 0 {
		return &fault{protocolError, "packet identifier 0 [MQTT-2.2.1-3]"}
	}
	code := byte(0)
	if p.QoS < 2 || !c.received[p.PacketID] {
		if !c.broker.publish(newMessage(c.id, p)) {
			code = noSubscribers
		}
	}
	switch p.QoS {
	case 1:
		c.send(&packets.Puback{PacketID: p.PacketID, ReasonCode: code, Properties: new(packets.Properties)})
	case 2:
		c.received[p.PacketID] = true
		c.send(&packets.Pubrec{PacketID: p.PacketID, ReasonCode: code, Properties: new(packets.Properties)})
	}
	return nil
}

// send queues a packet. Where the queue is full it waits for the writer, which ends
// the connection of a client that does not read.
func (c *client) send(p packets.Packet) {
	select {
	case c.queue <- p:
	case <-c.wrote:
	}
}

// dismiss ends the connection once what is queued is written, and says why, where the
// version has words for it.
func (c *client) dismiss(code byte) {
	c.send(&packets.Disconnect{ReasonCode: code, Properties: new(packets.Properties)})
}

// writer writes what is queued, until the connection ends, or a DISCONNECT is written, or
// the reader has ended and nothing is left, and closes the connection.
func (c *client) writer() {
	defer close(c.wrote)
	defer c.conn.Close()
	w := bufio.NewWriter(c.conn)
	for {
		select {
		case p := <-c.queue:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			err := c.codec.write(w, p)
			_, last := p.(*packets.Disconnect)
			if err == nil && (last || len(c.queue) == 0) {
				err = w.Flush()
			}
			if err != nil || last {
				return
			}
		case <-c.read:
			if len(c.queue) == 0 {
				return
			}
		}
	}
}
