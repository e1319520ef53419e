package session

import "context"

// publishOnline publishes the online status.
func (s *Session) publishOnline(ctx context.Context, conn *connection) {
	if s.o.Status == nil || conn.isOver(ctx) {
		return
	}
	conn.statusPending = true
	err := conn.publishStatus(ctx, onlineID, s.o.Status.Topic, statusOnline)
	if err != nil && conn.isOver(ctx) {
		return
	}
	conn.statusPending = false
	if err != nil {
		s.connLog.warn("status not published", "topic", s.o.Status.Topic, "broker", conn.broker, "err", err)
		return
	}
	s.closeCause.statusAccepted = true
}

// publishStatus publishes a status message, retained and with QoS 1, and waits until the
// broker has it. It is not kept for later: each connection says it anew.
func (conn *connection) publishStatus(ctx context.Context, id uint16, topic, payload string) error {
	p := Publication{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true}
	ctx, cancel := context.WithTimeoutCause(ctx, pubackTimeout, errNoAnswer(pubackTimeout))
	defer cancel()
	if err := conn.mqtt.writeFrame(appendPublish(nil, &p, id), ctx.Done()); err != nil {
		return err
	}
	_, err := await(ctx, conn.mqtt, conn.mqtt.statusAcked[id-onlineID])
	return err
}
