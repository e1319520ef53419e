package session

// Some brokers close the connection when they are given a message that they do
// not take: its topic is not allowed to us, or it is too large. MQTT 3.1.1 knows
// no other way to say so. As what is not acknowledged is published again on the
// next connection, one such message (a poison message) would end them all, and no
// other would ever be delivered. So when connections end one after the other with none of ours
// acknowledged, the oldest message is given to the broker alone, and when that
// ends the connection again, it is lost with ErrRefused.

// maxFailures is how often in a row a connection must end before something is
// concluded from it; once may be chance.
const maxFailures = 2

type poisonSearch struct {
	window   uint64 // how many publications may await an acknowledgement now
	full     uint64 // and when nothing points to a message
	alone    bool   // the oldest message is given to the broker alone
	on       bool   // publications may be written on this connection, and none was acknowledged
	possible bool   // the last connection ended with some of them written, and none acknowledged
	failures int    // of so many connections in a row
}

func newPoisonSearch(window uint64) poisonSearch { return poisonSearch{window: window, full: window} }

// clear says that the broker has acknowledged something.
func (s *poisonSearch) clear() { s.failures, s.window, s.alone, s.on = 0, s.full, false, false }

// maybePoison reports whether the connection that ended just now may have ended
// because of a message of ours: the broker had some, and has acknowledged none.
func (o *outbox) maybePoison() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	any := false
	for i := range o.flows {
		f := &o.flows[i]
		s := &f.poison
		s.possible, s.on = s.on && f.head < f.next && f.at(f.head).state == unanswered, false
		any = any || s.possible
	}
	return any
}

// dropPoisonMessage narrows the search after a connection that the broker closed, perhaps
// because of a message, and gives that up where only it is left. It returns its topic; "":
// none is given up.
func (o *outbox) dropPoisonMessage() (topic string) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	for i := range o.flows {
		f := &o.flows[i]
		s := &f.poison
		if !s.possible {
			continue
		}
		if s.failures++; s.failures < maxFailures {
			continue
		}
		s.failures = 0
		if s.window > 1 || !s.alone {
			s.window, s.alone = 1, true
		} else { // the next one is alone as well, until one is acknowledged
			topic = f.at(f.head).topic()
			o.giveUp(f, ErrRefused)
			o.popDelivered(f)
		}
	}
	o.mu.Unlock()
	o.notify()
	return topic
}

// topic reads the topic out of a message's frame; "" where that is gone.
func (m *queuedMessage) topic() string {
	if m.frame == nil {
		return ""
	}
	_, topic, _ := publishParts(m.frame)
	return string(topic)
}
