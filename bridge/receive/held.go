package receive

// heldDatagram is a datagram that waits, with a payload of its own. It counts
// against queue.size.
type heldDatagram struct {
	topic   *ruleTopic
	payload []byte
	arrival arrival
}

// keep copies a datagram that has to wait. nil: there is no room, and it is counted.
func (t *ruleTopic) keep(payload []byte, a *arrival) *heldDatagram {
	if !t.rule.acquire(len(payload), a.source) {
		t.rule.dropFull(a)
		return nil
	}
	return &heldDatagram{topic: t, payload: append([]byte(nil), payload...), arrival: *a}
}

// release is the end of the waiting.
func (h *heldDatagram) release() { h.topic.rule.budget.Release(1, len(h.payload)) }
