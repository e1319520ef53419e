package broker

// Clients is how many clients the broker still counts as connected.
func (b *Broker) Clients() int { return b.server.NumClients() }
