package session

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// teller is an Origin that writes down what it is told.
type teller struct {
	mu    sync.Mutex
	lines []string
	n     int // publications told of
}

func (o *teller) Published(n, bytes int) { o.note(n, fmt.Sprintf("published %d, %d bytes", n, bytes)) }
func (o *teller) Lost(n, bytes int, err error) {
	o.note(n, fmt.Sprintf("lost %d, %d bytes: %v", n, bytes, err))
}

func (o *teller) note(n int, line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
	o.lines = append(o.lines, line)
}

// told gives what was told since the last call.
func (o *teller) told() (lines []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines, o.lines = o.lines, nil
	return lines
}

// batchOf makes publications on topic t, one for each payload.
func batchOf(qos byte, origin Origin, payloads ...string) (batch []Publication) {
	for _, p := range payloads {
		batch = append(batch, Publication{Topic: []byte("t"), Payload: []byte(p), QoS: qos, Origin: origin})
	}
	return batch
}

// seen lists what the broker's end has got, without identifiers.
func (p *peer) seen() (got []string) {
	p.t.Helper()
	for len(p.in) > 0 {
		switch cp := p.next().(type) {
		case *packets.PublishPacket:
			got = append(got, show(cp))
		case nil:
			return append(got, "end")
		default:
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", cp), "*packets."), "Packet"))
		}
	}
	return got
}

func show(p *packets.PublishPacket) string {
	s := fmt.Sprintf("%s=%s %d", p.TopicName, p.Payload, p.Qos)
	if p.Retain {
		s += " retain"
	}
	if p.Dup {
		s += " dup"
	}
	return s
}

// published waits for publications and returns their identifiers by payload.
func (p *peer) published(want ...string) map[string]uint16 {
	p.t.Helper()
	ids := map[string]uint16{}
	for _, w := range want {
		m := expect[*packets.PublishPacket](p)
		if show(m) != w {
			p.t.Fatalf("got %.99s, want %.99s", show(m), w)
		}
		ids[string(m.Payload)] = m.MessageID
	}
	return ids
}

func (p *peer) reply(kind byte, id uint16) {
	p.t.Helper()
	first := kind << 4
	if kind == typePubrel {
		first |= 2
	}
	p.send(frame(first, byte(id>>8), byte(id)))
}

// equal waits until nothing moves any more, and compares.
func equal(t *testing.T, what string, got func() []string, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, got()); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestPublicationsArriveAsTheyWereGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		long := strings.Repeat("p", 70_000)
		payload := []byte("own")
		c.PublishBatch([]Publication{
			{Topic: []byte("a"), Payload: payload},
			{Topic: []byte("ä/b"), Payload: []byte(long), Retain: true},
		})
		copy(payload, "XXX") // the caller may use its memory again
		p.published("a=own 0", "ä/b="+long+" 0 retain")
		copy(payload, "own")
		// One at a time: there is no order between QoS 1 and QoS 2.
		c.PublishBatch([]Publication{{Topic: []byte("c"), QoS: 1, Payload: payload}, {Topic: []byte(strings.Repeat("x", 65535)), QoS: 1}})
		copy(payload, "XXX")
		p.published("c=own 1", strings.Repeat("x", 65535)+"= 1")
		c.PublishBatch([]Publication{{Topic: []byte("d"), QoS: 2, Payload: []byte(long), Retain: true}})
		p.published("d=" + long + " 2 retain")
	})
}

func TestWhatIsNoMessageOfMQTTIsLostAndHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		o := &teller{}
		for _, qos := range []byte{0, 1} {
			good := Publication{Topic: []byte("t"), QoS: qos, Origin: o}
			batch := []Publication{good}
			for _, topic := range []string{"", "a/+", "#", "a\x00", "\xff", strings.Repeat("x", 65536)} {
				batch = append(batch, Publication{Topic: []byte(topic), QoS: qos, Origin: o})
			}
			batch = append(batch, good, Publication{Topic: good.Topic, QoS: 3, Origin: o},
				Publication{Topic: good.Topic, QoS: qos, Payload: make([]byte, maxRest), Origin: o}, good)
			c.PublishBatch(batch)
			synctest.Wait()
			if diff := cmp.Diff([]string{fmt.Sprintf("t= %d", qos), fmt.Sprintf("t= %d", qos), fmt.Sprintf("t= %d", qos)}, p.seen()); diff != "" {
				t.Error(diff)
			}
			lost := 0
			for _, line := range o.told() {
				if strings.Contains(line, ErrInvalid.Error()) {
					lost++
				}
			}
			if lost != 8 {
				t.Errorf("QoS %d: %d lost, want 8", qos, lost)
			}
		}
	})
}

func TestQoS0IsLostWithoutAConnectionAndToldWhenWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		one, two := &teller{}, &teller{}
		c.PublishBatch(batchOf(0, one, "early"))
		equal(t, "before the connection", one.told, "lost 1, 5 bytes: not connected to the broker")
		p := b.greet(false, 0)
		c.reached("connected", connected)
		c.PublishBatch(append(batchOf(0, one, "a", "bb"), append(batchOf(0, two, "ccc"), batchOf(0, nil, "d")...)...))
		equal(t, "written", one.told, "published 2, 3 bytes")
		equal(t, "written", two.told, "published 1, 3 bytes")
		equal(t, "the broker", p.seen, "t=a 0", "t=bb 0", "t=ccc 0", "t=d 0")
		if s := c.State(); s.Published != 4 || s.Outstanding != 0 {
			t.Errorf("state %+v", s)
		}
		_ = p.Close()
		synctest.Wait()
		c.PublishBatch(batchOf(0, one, "late"))
		equal(t, "afterwards", one.told, "lost 1, 4 bytes: not connected to the broker")
	})
}

func TestAcknowledgementsInAnyOrderAreToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		one, two := &teller{}, &teller{}
		c.PublishBatch(append(batchOf(1, one, "a", "bb"), batchOf(1, two, "ccc")...))
		ids := p.published("t=a 1", "t=bb 1", "t=ccc 1")
		if c.Outstanding() != 3 || c.State().Outstanding != 3 {
			t.Errorf("%d outstanding", c.Outstanding())
		}
		p.reply(typePuback, ids["ccc"])
		p.reply(typePuback, ids["bb"])
		equal(t, "the first is missing", one.told)
		equal(t, "the first is missing", two.told)
		p.reply(typePuback, ids["a"])
		equal(t, "all are here", one.told, "published 2, 5 bytes")
		equal(t, "all are here", two.told, "published 1, 4 bytes")
		if s := c.State(); s.Outstanding != 0 || s.Published != 3 {
			t.Errorf("state %+v", s)
		}
	})
}

// MQTT 3.1.1 does not say what an answer is that nobody waits for. Brokers repeat
// themselves, and an earlier process may have left something behind.
func TestAnswersThatFitNothingDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(true, 0)
		c.reached("connected", connected)
		o := &teller{}
		c.PublishBatch(append(batchOf(1, o, "one"), batchOf(2, o, "two")...))
		for range qos2IDs.n { // for what an earlier process may have left behind
			expect[*packets.PubrelPacket](p)
		}
		ids := p.published("t=one 1", "t=two 2")
		one, two := ids["one"], ids["two"]
		p.reply(typePubcomp, one)  // of another kind
		p.reply(typePubcomp, two)  // out of turn
		p.reply(typePuback, two+1) // not written yet
		p.reply(typePuback, 7)     // never ours
		p.reply(typePubcomp, one-1)
		equal(t, "none fits", o.told)
		p.reply(typePuback, one)
		p.reply(typePuback, one) // again
		equal(t, "the first", o.told, "published 1, 4 bytes")
		equal(t, "so far", p.seen)
		// Each PUBREC wants its PUBREL [MQTT-4.3.3-1].
		for _, id := range []uint16{two, two, one - 5, 9} {
			p.reply(typePubrec, id)
			if rel := expect[*packets.PubrelPacket](p); rel.MessageID != id || rel.Qos != 1 {
				t.Errorf("PUBREL %v, want %d", rel, id)
			}
		}
		p.reply(typePuback, two) // of another kind, too late
		equal(t, "not complete", o.told)
		p.reply(typePubcomp, two)
		p.reply(typePubcomp, two)
		equal(t, "complete", o.told, "published 1, 4 bytes")
		if !c.State().Connected {
			t.Error("the connection is lost")
		}
	})
}

func TestTheWindowIsNeverExceeded(t *testing.T) {
	for _, window := range []int{1, 3, 100} {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: window}, b.use)
			o := &teller{}
			const n = 400
			for range n / 4 {
				c.PublishBatch(append(batchOf(1, o, "x", "x"), batchOf(2, o, "y", "y")...))
			}
			p := b.greet(false, 0)
			flight := map[uint16]bool{}
			for done := 0; done < n; {
				synctest.Wait()
				var got []packets.ControlPacket
				for len(p.in) > 0 {
					got = append(got, p.next())
				}
				for _, cp := range got {
					switch cp := cp.(type) {
					case *packets.PublishPacket:
						if flight[cp.MessageID] {
							t.Fatalf("identifier %d is in use", cp.MessageID)
						}
						flight[cp.MessageID] = true
					case *packets.PubrelPacket:
						delete(flight, cp.MessageID)
						done++
						p.reply(typePubcomp, cp.MessageID)
					}
				}
				if len(flight) > window {
					t.Fatalf("%d in flight, window %d", len(flight), window)
				}
				for _, cp := range got {
					if m, ok := cp.(*packets.PublishPacket); ok && m.Qos == 1 {
						delete(flight, m.MessageID)
						done++
						p.reply(typePuback, m.MessageID)
					} else if ok {
						p.reply(typePubrec, m.MessageID)
					}
				}
			}
			synctest.Wait()
			if o.n != n {
				t.Errorf("told of %d, want %d", o.n, n)
			}
		})
	}
}

func TestIdentifiersOfSubscribeNeverMeetThoseOfPublications(t *testing.T) {
	var r requests
	waits, _ := r.add(1)
	for range 3 * requestIDs {
		id, q := r.add(1)
		if id == 0 || id > requestIDs || id == waits {
			t.Fatalf("identifier %d", id)
		}
		r.answered(subAck{id: id, codes: []ReasonCode{1}})
		if codes := (<-q.answer).codes; codes[0] != 1 || r.filters(id) != 0 {
			t.Fatalf("%v, then %v", codes, r.filters(id))
		}
	}
}

func TestASubscribeThatIsRetriedGoesBesidePublications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "granted", QoS: 1}, {Filter: "s", QoS: 1}}}, b.use)
		p := b.greet(false, 0)
		p.codes(func(filter string, qos byte) byte {
			if filter == "s" {
				return subackFailure
			}
			return qos
		})
		c.reached("connected", connected)
		o := &teller{}
		for i := range 5 {
			time.Sleep(min(retryRefused<<i, maxRetryRefused) - retryRefused)
			c.PublishBatch(batchOf(1, o, "x"))
			m := expect[*packets.PublishPacket](p)
			time.Sleep(retryRefused)
			s := expect[*packets.SubscribePacket](p)
			if m.MessageID < firstPublicationID || s.MessageID > requestIDs {
				t.Errorf("PUBLISH %d, SUBSCRIBE %d", m.MessageID, s.MessageID)
			}
			p.send(suback(s.MessageID, subackFailure))
			p.reply(typePuback, m.MessageID)
			synctest.Wait()
		}
		if o.n != 5 {
			t.Errorf("told of %d", o.n)
		}
	})
}
