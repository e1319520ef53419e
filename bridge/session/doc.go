// Package session keeps one MQTT session with a broker.
//
// The way of a connection stands in connect.go, that of a message from the broker in
// conn.go, that of a publication to it in outbox.go and write.go; the bytes of MQTT in
// frame.go (PUBLISH and its acknowledgements) and codec311.go and codec5.go (everything else).
//
// Who runs: Run, on its caller's goroutine, connects, subscribes and judges the ends of
// connections. Each connection has three goroutines more: readLoop, which also calls
// Handle; writeLoop, which writes what others have left; keepAlive. Whoever publishes
// writes as well.
//
// Origins are told by whoever learns the outcome, under notifyMu: readLoop of what the
// broker has acknowledged, whoever writes of QoS 0, a publisher of what is not taken,
// and Run, when a connection begins or ends and when the session ends, of the rest.
//
// Locks, in the order in which they are taken:
//
//	inbox.mu            a batch is handled, or none is any more
//	mqttConn.writeLock  a frame is written; a channel, which can be handed over
//	outbox.notifyMu     Origins are told, each in its turn
//	outbox.mu           publications that wait for the broker
//	Session.mu          the state and the subscriptions
//	acks.mu             messages that wait for us; of an older connection after that of a newer
//
// requests.mu is taken with none of them.
package session
