package session

// Some brokers close the connection when they are given a message that they do
// not take: its topic is not allowed to us, or it is too large. MQTT 3.1.1 knows
// no other way to say so. As what is not acknowledged is published again on the
// next connection, one such message would end them all, and no other would ever
// be delivered. So when connections end one after the other with none of ours
// acknowledged, the oldest message is given to the broker alone, and when that
// ends the connection again, it is lost with ErrRefused.

// maxStrikes is how often in a row a connection must end before something is
// concluded from it; once may be chance.
const maxStrikes = 2

type suspects struct {
	window uint64 // how many publications may await an acknowledgement now
	full   uint64 // and when there is no suspicion
	on     bool   // publications may be written on this connection, and none was acknowledged
	count  int    // strikes
}

func newSuspects(window uint64) suspects { return suspects{window: window, full: window} }

// clear says that the broker has acknowledged something.
func (s *suspects) clear() { s.count, s.window, s.on = 0, s.full, false }

// suspected says whether the connection that ended just now may have ended
// because of a message of ours: the broker had some, and has acknowledged none.
func (o *outbox) suspected() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	on := o.suspects.on
	o.suspects.on = false
	return on && o.ring.head < o.ring.next
}

// convict draws the lesson from a connection that the broker closed, and that was
// suspected. It returns the topic of the message that is given up, if one is.
func (o *outbox) convict() (topic string) {
	o.telling.Lock()
	defer o.telling.Unlock()
	o.mu.Lock()
	s := &o.suspects
	if s.count++; s.count == maxStrikes {
		s.count = 0
		if s.window > 1 {
			s.window = 1
		} else { // the next one is alone as well, until one is acknowledged
			topic = o.ring.at(o.ring.head).topic()
			o.giveUp(ErrRefused)
			o.reap()
		}
	}
	o.mu.Unlock()
	o.tell()
	return topic
}

// topic reads the topic out of a parcel's frame; "" where that is gone.
func (p *parcel) topic() string {
	head, rest, err := fixedHeader(p.frame)
	if err != nil || head == 0 {
		return ""
	}
	topic, _, _, _ := publishHead(p.frame, head, rest)
	return string(topic)
}
