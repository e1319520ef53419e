package session

// Some brokers close the connection when they are given a message that they do
// not take: its topic is not allowed to us, or it is too large. MQTT 3.1.1 knows
// no other way to say so. As what is not acknowledged is published again on the
// next connection, one such message (a poison message) would end them all, and no
// other would ever be delivered.
//
// But a broker that is ill ends its connections too, whatever message it is given, and
// then no message is to blame. So a message is judged by what becomes of others:
//
//  1. When connections end one after the other with none of ours acknowledged, the oldest
//     message is given to the broker alone.
//  2. If that ends connections too, it is the suspect. From then on another message is
//     given first, and the suspect when that is acknowledged. A message of another topic
//     is preferred: it is the topic that most such brokers dislike, and within one the
//     order is to be kept.
//  3. A connection that ends over the suspect after the broker took another message
//     counts. Each second time it has to take two: a broker that ends each connection over
//     the second message, whichever that is, is ill. When so many have ended
//     (Options.GiveUpAfter), the suspect is lost with ErrRefused, and its Origin is given it
//     before, to keep it elsewhere (Refuser).
//
// A broker that takes no other is ill, and so may be one that is given no other. All
// messages stay where they are, and it is asked again. But once a connection has counted,
// and there is no other left, or only such on the same topic, as those that would come wait
// on disk for the suspect, each second connection that ends counts too.

const (
	// maxFailures is how often in a row a connection must end before something is
	// concluded from it; once may be chance.
	maxFailures = 2

	// maxOthers is among how many messages behind the suspect another one is looked for.
	maxOthers = 4096
)

type poisonSearch struct {
	window   uint64 // how many publications may await an acknowledgement now
	full     uint64 // and when nothing points to a message
	alone    bool   // the oldest message is given to the broker alone
	on       bool   // publications may be written on this connection, and none was acknowledged
	possible bool   // the last connection ended with some of them written, and none acknowledged
	failures int    // of so many connections in a row

	suspect bool   // the oldest message ended connections when it was alone
	other   uint64 // the number of the one that is given before it; 0: none is, or all are acknowledged
	others  int    // how many others ended connections
	took    int    // how many others the broker has acknowledged on this connection
	losses  int    // connections that ended over the suspect all the same
	ends    int    // and those that did with no other left, since one counted
	known   bool   // a message on the topic of the suspect was given up before, and none was taken since
}

func newPoisonSearch(window uint64) poisonSearch { return poisonSearch{window: window, full: window} }

// clear says that the broker has acknowledged the oldest message, or any while none is a
// suspect.
func (s *poisonSearch) clear() { *s = poisonSearch{window: s.full, full: s.full} }

// popped says that the oldest message was given up. After a suspect the next one is alone
// as well.
func (s *poisonSearch) popped() {
	if s.suspect {
		s.suspect, s.known, s.losses, s.ends, s.others, s.failures = false, false, 0, 0, 0, 0
	}
}

// attached is the begin of a connection.
func (f *flow) attached() {
	s := &f.poison
	s.on, s.took, s.other = true, 0, 0
	if s.suspect {
		f.giveOther()
	}
}

// giveOther lets another message be given before the suspect, or, where there is none,
// the suspect.
func (f *flow) giveOther() {
	n, ok := f.another()
	if !ok {
		f.poison.other, f.next = 0, f.head
		return
	}
	f.poison.other, f.next = n, n
}

// another finds a message to be given before the suspect: one of another Origin and topic if
// there is one, for what a rule publishes is often of one kind; else of another topic. It is
// the first of them, the second when that has ended a connection, and so on.
func (f *flow) another() (n uint64, ok bool) {
	topic := f.at(f.head).topic()
	origin := f.at(f.head).origin
	var same, others, elsewhere []uint64
	for n := f.head + 1; n < min(f.tail, f.head+maxOthers); n++ {
		switch p := f.at(n); {
		case p.state != unanswered:
		case p.topic() == topic:
			same = append(same, n)
		case p.origin == origin:
			others = append(others, n)
		default:
			elsewhere = append(elsewhere, n)
		}
	}
	switch {
	case len(elsewhere) > 0:
		others = append(elsewhere, others...)
	case len(others) == 0:
		others = same
	}
	if len(others) == 0 {
		return 0, false
	}
	return others[f.poison.others%len(others)], true
}

// acknowledged says that the broker has acknowledged the message with a number, for good
// or for now.
func (f *flow) acknowledged(n uint64) {
	s := &f.poison
	if !s.suspect || n == f.head {
		s.clear()
		return
	}
	if s.took++; n != s.other {
		return
	}
	if s.took <= s.losses%2 {
		f.giveOther()
	} else {
		s.other, f.next = 0, f.head // the suspect's turn
	}
}

// tellBeside tells of what the broker has taken of others beside a suspect, if nothing of the
// same Origin is before it. Else a publisher that sends the next when it has heard of the last would
// have no other to be given before the suspect. Callers hold notifyMu and mu.
func (o *outbox) tellBeside(f *flow) {
	if !f.poison.suspect {
		return
	}
	waits := make(map[Origin]bool)
	for n := f.head; n < f.written; n++ {
		switch m := f.at(n); {
		case m.told:
		case m.state == delivered && !waits[m.origin]:
			m.told = true
			o.completions.add(run{m.origin, 1, m.payload}, nil)
		default:
			waits[m.origin] = true
		}
	}
}

// maybePoison reports whether the connection that ended just now may have ended
// because of a message of ours: the broker had some, and has acknowledged none.
func (o *outbox) maybePoison() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	any := false
	for i := range o.flows {
		f := &o.flows[i]
		s := &f.poison
		tried := f.head
		if s.other > 0 {
			tried = s.other
		}
		s.possible, s.on = s.on && tried < f.next && f.at(tried).state == unanswered, false
		any = any || s.possible
	}
	return any
}

// noneElse reports whether, after one that counted, a connection has ended over another message on
// the suspect's topic: there is no other left of which the broker may take one.
func (f *flow) noneElse() bool {
	s := &f.poison
	return (s.losses > 0 || s.known) && s.took == 0 && f.at(s.other).topic() == f.at(f.head).topic()
}

// count counts a connection that ended over the suspect.
func (s *poisonSearch) count() {
	if s.took == 0 && (s.losses > 0 || s.known) {
		s.ends++
	}
	if s.took > 0 || s.ends == 2 {
		s.losses++
		s.ends = 0
	}
}

// A suspicion is what is known of a message that the broker may not take.
type suspicion struct {
	topic   string
	losses  int  // connections that ended over it, while others were acknowledged
	givenUp bool // it is lost
	barred  bool // and from now on all that come on its topic
}

// narrow goes on with the search after a connection that the broker closed, perhaps
// because of a message, and gives up one that is found out, after so many losses; 0: never.
func (o *outbox) narrow(giveUpAfter int) (found suspicion) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	for i := range o.flows {
		f := &o.flows[i]
		s := &f.poison
		s.known = s.possible && o.refused.topics[f.at(f.head).topic()] != nil
		switch {
		case !s.possible, f.at(f.head).state.settled():
		case s.other > 0 && !f.noneElse():
			s.others++
		case s.suspect:
			s.count()
			found = suspicion{topic: f.at(f.head).topic(), losses: s.losses, givenUp: giveUpAfter > 0 && s.losses >= giveUpAfter}
			if found.givenUp {
				f.at(f.head).state = givenUp
				if found.barred = o.refused.givenUp(found.topic); found.barred {
					o.bar(found.topic)
				}
			}
		default:
			if s.failures++; s.failures >= maxFailures {
				s.failures = 0
				s.suspect = s.alone
				s.window, s.alone = 1, true
			}
		}
	}
	for i := range o.flows {
		o.popSettled(&o.flows[i])
	}
	o.mu.Unlock()
	o.notify()
	return found
}

// topic reads the topic out of a message's frame; "" where that is gone.
func (m *queuedMessage) topic() string {
	if m.frame == nil {
		return ""
	}
	_, topic, _, _ := publishParts(m.frame, &form{protocol: m.protocol})
	return string(topic)
}
