package session

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// What a lost connection leaves of a publication, by how far it had come.
func TestAfterAReconnectEachPublicationGoesOnWhereItWas(t *testing.T) {
	for _, tt := range []struct {
		name    string
		qos     byte
		answers []byte // before the connection is lost
		present bool
		again   []string // what is written on the next connection
		finish  byte     // the answer to it
	}{
		{"QoS 1, no PUBACK", 1, nil, true, []string{"t=x 1 dup"}, typePuback},
		{"QoS 1, no PUBACK, no session", 1, nil, false, []string{"t=x 1 dup"}, typePuback},
		{"QoS 1, PUBACK", 1, []byte{typePuback}, true, nil, 0},
		{"QoS 1, PUBACK twice", 1, []byte{typePuback, typePuback}, true, nil, 0},
		{"QoS 2, PUBACK", 2, []byte{typePuback}, true, nil, 0},
		{"QoS 2, PUBREC and PUBACK", 2, []byte{typePubrec, typePuback}, true, []string{"Pubrel"}, typePubcomp},
		{"QoS 2, no PUBREC", 2, nil, true, []string{"t=x 2 dup"}, typePubrec},
		{"QoS 2, no PUBREC, no session", 2, nil, false, []string{"t=x 2 dup"}, typePubrec},
		{"QoS 2, PUBREC", 2, []byte{typePubrec}, true, []string{"Pubrel"}, typePubcomp},
		{"QoS 2, PUBREC twice", 2, []byte{typePubrec, typePubrec}, true, []string{"Pubrel"}, typePubcomp},
		{"QoS 2, PUBREC, no session", 2, []byte{typePubrec}, false, []string{"t=x 2 dup"}, typePubrec},
		{"QoS 2, PUBCOMP", 2, []byte{typePubrec, typePubcomp}, true, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}}, b.use)
				p := b.greet(false, 0)
				c.reached("connected", connected)
				o := &teller{}
				c.PublishBatch(batchOf(tt.qos, o, "x"))
				id := p.published(fmt.Sprintf("t=x %d", tt.qos))["x"]
				for _, kind := range tt.answers {
					p.reply(kind, id)
					synctest.Wait()
				}
				c.PublishBatch(nil)
				_ = p.Close()
				p = b.greet(tt.present, 0)
				c.reached("connected again", func(s State) bool { return s.Connects == 2 })
				var again []uint16
				equal(t, "written again", func() []string {
					var got []string
					for len(p.in) > 0 {
						cp := p.next()
						again = append(again, cp.Details().MessageID)
						if m, ok := cp.(*packets.PublishPacket); ok {
							got = append(got, show(m))
						} else {
							got = append(got, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", cp), "*packets."), "Packet"))
						}
					}
					return got
				}, tt.again...)
				for _, got := range again {
					if got != id {
						t.Errorf("with identifier %d, was %d", got, id)
					}
				}
				if tt.finish != 0 {
					if o.n != 0 {
						t.Errorf("told too early: %v", o.told())
					}
					p.reply(tt.finish, id)
				}
				if tt.finish == typePubrec {
					expect[*packets.PubrelPacket](p)
					p.reply(typePubcomp, id)
				}
				equal(t, "in the end", o.told, "published 1, 2 bytes")
			})
		})
	}
}

// The order of publishing is the order of writing again, with what is new behind.
func TestWhatIsWrittenAgainKeepsItsOrderAndOnlyThatIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 4}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		synctest.Wait() // else the writer, who just begins, may find both batches at once
		o := &teller{}
		c.PublishBatch(append(batchOf(1, o, "a", "c", "d"), batchOf(2, o, "b")...))
		c.PublishBatch(batchOf(1, o, "e", "f"))
		ids := p.published("t=a 1", "t=c 1", "t=d 1", "t=b 2")
		p.reply(typePubrec, ids["b"])
		p.reply(typePuback, ids["c"])
		synctest.Wait()
		_ = p.Close()
		synctest.Wait()
		c.PublishBatch(batchOf(1, o, "g")) // while there is no connection

		p = b.greet(true, 0)
		equal(t, "the second connection", p.seen, "Pubrel")
		p.reply(typePuback, ids["d"]) // and it is lost again
		synctest.Wait()
		_ = p.Close()

		p = b.greet(true, 0)
		equal(t, "the third connection", p.seen, "Pubrel")
		p.reply(typePubcomp, ids["b"])
		equal(t, "when QoS 2 is done", p.seen, "t=a 1 dup", "t=e 1")
		p.reply(typePuback, ids["a"])
		equal(t, "when there is room", p.seen, "t=f 1", "t=g 1")
		equal(t, "told", o.told, "published 1, 2 bytes", "published 3, 6 bytes")
	})
}

// A broker may answer on the next connection what it got on the last.
func TestAnAnswerThatComesBeforeItsRepetitionCounts(t *testing.T) {
	o := newOutbox(10)
	origin := &teller{}
	o.add(batchOf(1, origin, "a", "b"))
	first := o.flows[0].ring.head
	o.nextWrite(nil, nil, nil)
	o.flows[0].ring.rewind()
	o.acknowledge([]pubAck{{typePuback, 0, qos1IDs.of(first + 1)}}, nil, nil)
	o.acknowledge([]pubAck{{typePuback, 0, qos1IDs.of(first)}}, nil, nil)
	b, _, _ := o.nextWrite(nil, nil, nil)
	if len(b) > 0 || origin.n != 2 {
		t.Errorf("wrote % x again, told %v", b, origin.told())
	}
}

// An identifier is a publication's from its first writing to its acknowledgement.
func TestOnlyWhatWasWrittenCanBeAcknowledged(t *testing.T) {
	o := newOutbox(1)
	origin := &teller{}
	o.add(batchOf(1, origin, "a", "b"))
	o.nextWrite(nil, nil, nil)
	id := qos1IDs.of(o.flows[0].ring.head)
	o.acknowledge([]pubAck{{typePuback, 0, qos1IDs.of(o.flows[0].ring.head + 1)}, {typePuback, 0, id &^ firstPublicationID}}, nil, nil)
	if origin.n != 0 {
		t.Errorf("told %v", origin.told())
	}
	o.acknowledge([]pubAck{{typePuback, 0, id}}, nil, nil)
	if b, _, _ := o.nextWrite(nil, nil, nil); origin.n != 1 || len(b) == 0 {
		t.Errorf("told %v, then wrote % x", origin.told(), b)
	}
}

// What was given to a connection that was over by then was never sent.
func TestWhatABrokenConnectionDidNotTakeIsNoRepetition(t *testing.T) {
	s, _ := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
	c := testConn(&memConn{}, &s.inbox, s.outbox)
	s.outbox.attach(c, false)
	_ = c.fail(net.ErrClosed)
	s.PublishBatch(batchOf(1, nil, "a"))
	c.waitClosed()
	s.outbox.detach(c, ErrNotConnected)
	s.outbox.flows[0].ring.rewind()
	b, _, _ := s.outbox.nextWrite(nil, nil, nil)
	if len(b) == 0 || b[0]&dupFlag != 0 {
		t.Errorf("wrote % x", b)
	}
}

// Acknowledgements may leave before publications may.
func TestAConnectionThatIsNotAttachedWritesNoPublication(t *testing.T) {
	s, _ := New(Options{URLs: []string{"mqtt://memory"}, Clean: true, Handle: func([]Message) {}})
	conn := &memConn{}
	c := testConn(conn, &s.inbox, s.outbox)
	s.PublishBatch(batchOf(1, nil, "a"))
	if err := c.flush(); err != nil || conn.written.Len() > 0 {
		t.Errorf("%v, wrote % x", err, conn.written.Bytes())
	}
	c.end()
}

func TestAMessageThatTheBrokerHangsUpOnIsFoundAndGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "s", QoS: 0}}, Status: &Status{"status"}, GiveUpAfter: 2}, b.use)
		o := &teller{}
		c.PublishBatch(batchOf(1, o, "1", "2", "bad", "4", "5"))
		connects := 0
		var got []string
		for c.Outstanding() > 0 {
			p := b.accept()
			p.connack(true)
			if connects++; connects > 20 {
				t.Fatalf("20 connects, and only %v", got)
			}
			for open := true; open && c.Outstanding() > 0; synctest.Wait() {
				switch m := p.next().(type) {
				case *packets.SubscribePacket:
					p.send(suback(m.MessageID, m.Qoss...))
				case *packets.PublishPacket:
					if string(m.Payload) == "bad" {
						_ = p.Close()
						open = false
						continue
					}
					if m.TopicName == "t" {
						got = append(got, string(m.Payload))
					}
					p.reply(typePuback, m.MessageID)
				case nil:
					open = false
				}
			}
		}
		b.greet(true, 1)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1", "2", "4", "5"}, got); diff != "" {
			t.Error(diff)
		}
		want := []string{"published 2, 4 bytes", "lost 1, 4 bytes: " + ErrRefused.Error(), "published 2, 4 bytes"}
		lines := slices.DeleteFunc(o.told(), func(s string) bool { return s == "published 1, 2 bytes" })
		if !slices.Contains(lines, want[1]) || o.n != 5 {
			t.Errorf("told %v", lines)
		}
		if !strings.Contains(c.log.String(), `given a message on topic \"t\"`) {
			t.Errorf("not named in the log:\n%s", c.log)
		}
		if sub := c.subscriptions()[0]; !sub.Active {
			t.Errorf("the subscription was blamed: %+v", sub)
		}
	})
}
