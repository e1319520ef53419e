package demobroker

import "net"

const MaxClients = maxClients

// Serve has the broker serve a connection that was not accepted by its listener.
func (b *Broker) Serve(conn net.Conn) { b.serve(conn) }

// Clients is how many clients are connected.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// Subscriptions is how many subscriptions the clients have.
func (b *Broker) Subscriptions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, c := range b.clients {
		n += len(c.subscriptions)
	}
	return n
}
