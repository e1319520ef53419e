package demobroker

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// What clients may take. Whoever asks for more is disconnected, or refused the
// subscription; a retained message above the limit is delivered and not kept.
const (
	maxClients  = 100
	maxPacket   = 256 << 10 // bytes of a control packet after its fixed header
	maxFilters  = 1000      // subscriptions of a client
	maxRetained = 1000      // topics
	queueLength = 1000      // packets that wait to be written to a client

	connectTimeout = 5 * time.Second // from the connection to its CONNECT
	// A client that reads nothing holds up the others this long, and is then
	// disconnected.
	writeTimeout = time.Second
)

// A Broker is a running broker.
//
// It has a goroutine that accepts connections, and two for each of them: one
// reads, and hands each message to the queues of all subscribers while it holds
// mu; the other writes what is in the queue, and takes no lock.
type Broker struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	open     map[*client]bool   // every connection
	clients  map[string]*client // those whose CONNECT was accepted, by client identifier
	retained map[string]*packets.PublishPacket
}

// Start returns a broker that already accepts connections, at a free port of
// 127.0.0.1.
func Start() (*Broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Broker{listener: l, open: map[*client]bool{}, clients: map[string]*client{}, retained: map[string]*packets.PublishPacket{}}
	b.running.Go(b.accept)
	return b, nil
}

// URL is where clients connect: "mqtt://127.0.0.1:41883".
func (b *Broker) URL() string { return "mqtt://" + b.listener.Addr().String() }

// Close ends every connection, without publishing its will, and returns when the
// broker has stopped. It may be called more than once.
func (b *Broker) Close() {
	_ = b.listener.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.open {
		_ = c.conn.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
}

func (b *Broker) accept() {
	for {
		switch conn, err := b.listener.Accept(); {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many open files, for one: there may be fewer later
			time.Sleep(10 * time.Millisecond)
		default:
			b.serve(conn)
		}
	}
}

// serve starts the goroutines of a connection.
func (b *Broker) serve(conn net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.open) == maxClients {
		_ = conn.Close()
		return
	}
	c := newClient(b, conn)
	b.open[c] = true
	b.running.Go(c.reader)
	b.running.Go(c.writer)
}

// join makes a client known by its identifier, in the place of the one that had it
// before [MQTT-3.1.4-2].
func (b *Broker) join(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.clients[c.id]; old != nil {
		_ = old.conn.Close()
		b.end(old)
	}
	b.clients[c.id] = c
	c.send(&packets.ConnackPacket{FixedHeader: header(packets.Connack), ReturnCode: packets.Accepted})
}

// leave forgets a client whose connection has ended.
func (b *Broker) leave(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
	if b.clients[c.id] == c {
		b.end(c)
	}
}

// end makes a client unknown and publishes its will, if there is one still
// [MQTT-3.1.2-8]. Callers hold mu.
func (b *Broker) end(c *client) {
	delete(b.clients, c.id)
	if c.will != nil && !b.closed {
		b.route(c.will)
	}
}

// forgetWill discards the will of a client that says goodbye [MQTT-3.14.4-3].
func (b *Broker) forgetWill(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.will = nil
}

// publish takes a message of a client.
func (b *Broker) publish(m *packets.PublishPacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route(m)
}

// route hands a message to all subscribers, and keeps it if it is to be retained.
// Callers hold mu, so all see messages in one order.
func (b *Broker) route(m *packets.PublishPacket) {
	if m.Retain {
		_, known := b.retained[m.TopicName]
		switch {
		case len(m.Payload) == 0:
			delete(b.retained, m.TopicName) // [MQTT-3.3.1-10]
		case known || len(b.retained) < maxRetained:
			b.retained[m.TopicName] = m
		}
	}
	for _, c := range b.clients {
		if qos, ok := c.matches(m.TopicName); ok {
			c.deliver(m, qos, false) // [MQTT-3.3.1-9]
		}
	}
}

// subscribe adds subscriptions, answers, and delivers what is retained for them.
func (b *Broker) subscribe(c *client, p *packets.SubscribePacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ack := &packets.SubackPacket{FixedHeader: header(packets.Suback), MessageID: p.MessageID}
	var added []subscription
	for i, filter := range p.Topics {
		s, err := c.subscribe(filter, p.Qoss[i])
		if err != nil {
			ack.ReturnCodes = append(ack.ReturnCodes, 0x80)
			continue
		}
		added = append(added, s)
		ack.ReturnCodes = append(ack.ReturnCodes, s.qos)
	}
	c.send(ack)
	for _, s := range added {
		for topic, m := range b.retained {
			if s.filter.Match(topic) {
				c.deliver(m, s.qos, true) // [MQTT-3.3.1-6], [MQTT-3.3.1-8]
			}
		}
	}
}

func (b *Broker) unsubscribe(c *client, p *packets.UnsubscribePacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, filter := range p.Topics {
		delete(c.subscriptions, filter)
	}
	c.send(&packets.UnsubackPacket{FixedHeader: header(packets.Unsuback), MessageID: p.MessageID})
}

// acknowledged frees the packet identifier of a message that a client has taken.
func (b *Broker) acknowledged(c *client, id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(c.inFlight, id)
}
