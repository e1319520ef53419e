package receive

// waitingDatagram is a datagram that waits, with a payload of its own. It counts
// against queue.size.
type waitingDatagram struct {
	topic   *ruleTopic
	payload []byte
	arrival arrival
}

// keep copies a datagram that has to wait. nil: there is no room, and it is counted.
func (t *ruleTopic) keep(payload []byte, a *arrival) *waitingDatagram {
	if !t.rule.acquire(len(t.name)+len(payload), a) {
		t.rule.dropFull(t.name, a, payload)
		return nil
	}
	w := &waitingDatagram{topic: t, payload: append([]byte(nil), payload...), arrival: *a}
	w.arrival.waited = true
	return w
}

// release is the end of the waiting.
func (h *waitingDatagram) release() {
	h.topic.rule.budget.Release(1, len(h.topic.name)+len(h.payload))
}
