package demobroker

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
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
	retained map[string]*message
}

// Start returns a broker that already accepts connections, at a free port of
// 127.0.0.1.
func Start() (*Broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Broker{listener: l, open: map[*client]bool{}, clients: map[string]*client{}, retained: map[string]*message{}}
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
// before [MQTT-3.1.4-3].
func (b *Broker) join(c *client, answer *packets.Connack) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.clients[c.id]; old != nil {
		old.dismiss(takenOver)
		b.end(old)
	}
	b.clients[c.id] = c
	c.send(answer)
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
// [MQTT-3.1.2-8]: its session ends too, so that a delay does not count [MQTT-3.1.3-9].
// Callers hold mu.
func (b *Broker) end(c *client) {
	delete(b.clients, c.id)
	if c.will != nil && !b.closed {
		b.route(newMessage(c.id, c.will))
	}
}

// forgetWill discards the will of a client that says goodbye [MQTT-3.14.4-3].
func (b *Broker) forgetWill(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.will = nil
}

// publish takes a message of a client, and reports whether there are subscribers.
func (b *Broker) publish(m *message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.route(m)
}

// route hands a message to all subscribers, and keeps it if it is to be retained.
// Callers hold mu, so all see messages in one order.
func (b *Broker) route(m *message) (taken bool) {
	if m.retain {
		_, known := b.retained[m.topic]
		switch {
		case len(m.payload) == 0:
			delete(b.retained, m.topic) // [MQTT-3.3.1-6]
		case known || len(b.retained) < maxRetained:
			b.retained[m.topic] = m
		}
	}
	for _, c := range b.clients {
		for _, d := range c.deliveries(m) {
			c.deliver(m, d)
			taken = true
		}
	}
	return taken
}
