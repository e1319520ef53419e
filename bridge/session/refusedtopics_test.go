package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// forbids is a broker that closes the connection over messages on these topics.
func forbids(topics ...string) func(int, *packets.PublishPacket) bool {
	return func(_ int, m *packets.PublishPacket) bool { return slices.Contains(topics, m.TopicName) }
}

// since is how many connections there were since the last call.
func (b *sickBroker) since() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, b.connects = b.connects, 0
	return n
}

// taken is how many messages it has acknowledged.
func (b *sickBroker) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// A stream of messages on a topic that the broker forbids costs a search for two of them,
// and a connection now and then; all others go on.
func TestATopicThatTheBrokerForbidsIsBarred(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: 3})
				b.set(forbids("a/1"))
				k := &refuser{}
				sent := 0
				stream := func(d time.Duration) {
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Second) {
						batch := on(qos, k, 3, 3)
						for i := range batch {
							batch[i].Payload = fmt.Append(nil, sent)
							sent++
						}
						c.PublishBatch(batch)
					}
				}
				stream(3 * time.Minute)
				if n := b.since(); n > 30 {
					t.Errorf("%d connections until it is barred", n)
				}
				const text = "the broker takes no messages on a topic"
				if lines := c.log.lines(text); len(lines) != 1 || !strings.Contains(lines[0], "topic=a/1") {
					t.Fatalf("%q in:\n%s", lines, c.log)
				}
				stream(time.Hour)
				if n := b.since(); n < 10 || n > 16 {
					t.Errorf("%d connections in an hour", n)
				}
				if n := len(c.log.lines("")); n > 30 {
					t.Errorf("%d lines:\n%s", n, c.log)
				}
				synctest.Wait()
				if k.count() < sent-3 || len(k.given()) != sent/3 || b.taken() < sent/3*2-2 {
					t.Errorf("%d messages: told of %d, given up %d, taken %d", sent, k.count(), len(k.given()), b.taken())
				}
				for i, line := range k.given() { // in order, and each once
					if want := fmt.Sprint("a/1 ", 3*i+1); line != want {
						t.Fatalf("the %dth that was given up is %q, want %q", i+1, line, want)
					}
				}
				// Allowed again, it is as any other after one probe.
				b.set(nil)
				stream(maxTopicProbe + time.Second)
				was := len(k.given())
				stream(time.Minute)
				if len(k.given()) != was || len(c.log.lines("takes messages on a topic again")) != 1 || b.since() > 0 {
					t.Errorf("allowed again: %d given up, %s", len(k.given())-was, c.log)
				}
			})
		})
	}
}

// Messages that were given to the session before its topic was barred are given up with
// it, and those of other topics between them are not.
func TestWhatWaitsOnATopicThatIsBarredIsGivenUpInItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 1})
		b.set(forbids("a/0"))
		k := &refuser{}
		c.PublishBatch(on(1, k, 2, 200))
		c.PublishBatch(on(2, k, 2, 200))
		time.Sleep(10 * time.Minute)
		if k.count() != 400 || len(k.given()) != 200 || b.taken() != 100 { // payloads of both are the same
			t.Errorf("told of %d, given up %d, taken %d:\n%s", k.count(), len(k.given()), b.taken(), c.log)
		}
		if told := k.told(); len(told) == 0 || !strings.Contains(strings.Join(told, ";"), ErrTopicRefused.Error()) {
			t.Error(told)
		}
		if !errors.Is(ErrTopicRefused, ErrRefused) {
			t.Error("it is not refused")
		}
	})
}

// However many topics are forbidden, the connections that end for probes are few, and
// what is remembered of topics is bounded.
func TestManyTopicsThatAreForbiddenCostFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		var topics []string
		for i := range 40 {
			topics = append(topics, fmt.Sprint("bad/", i))
		}
		b.set(forbids(topics...))
		c.outbox.mu.Lock()
		for _, topic := range topics {
			for range barAfter {
				c.outbox.refused.givenUp(topic)
			}
		}
		c.outbox.mu.Unlock()
		time.Sleep(time.Second)
		b.since()
		k, ok := &refuser{}, &teller{}
		for range 10 * 60 {
			for _, topic := range topics {
				c.PublishBatch([]Publication{{Topic: []byte(topic), QoS: 1, Origin: k}})
			}
			c.PublishBatch(batchOf(1, ok, "x"))
			time.Sleep(time.Second)
		}
		if n, most := b.since(), int(10*time.Minute/probeSpacing); n > most {
			t.Errorf("%d connections in 10 minutes, want at most %d", n, most)
		}
		if ok.count() < 590 {
			t.Errorf("%d of 600 others", ok.count())
		}
		b.set(nil) // one that is taken again makes way for the next at once
		for range int(2*maxTopicProbe/time.Second) + 60 {
			for _, topic := range topics {
				c.PublishBatch([]Publication{{Topic: []byte(topic), QoS: 1, Origin: k}})
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(c.outbox.refused.topics); n > 0 {
			t.Errorf("%d topics are still barred", n)
		}
	})
	var r refusedTopics
	for i := range 3 * maxRefusedTopics {
		r.givenUp(fmt.Sprint(i))
	}
	if n := len(r.topics); n != maxRefusedTopics || r.topics[fmt.Sprint(3*maxRefusedTopics-1)] == nil {
		t.Errorf("%d topics are remembered", n)
	}
	long := strings.Repeat("x", maxRefusedTopic+1)
	for range barAfter {
		if r.givenUp(long) || r.topics[long] != nil {
			t.Error("a long topic is remembered")
		}
	}
}

// A topic of which the broker takes messages is not barred, though it does not take some.
func TestATopicOfWhichSomeMessagesAreTakenIsNotBarred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 1})
		b.set(func(_ int, m *packets.PublishPacket) bool { return len(m.Payload) > 10 }) // too large
		k := &refuser{}
		for range 5 {
			c.PublishBatch(append(on(1, k, 2, 2), Publication{Topic: []byte("a/0"), Payload: make([]byte, 20), QoS: 1, Origin: k}))
			c.PublishBatch(on(1, k, 2, 2))
			time.Sleep(2 * time.Minute)
		}
		if len(k.given()) != 5 || k.count() != 25 {
			t.Errorf("%d of 5 given up, told of %d of 25:\n%s", len(k.given()), k.count(), c.log)
		}
	})
}

// Where nothing is to be given up no topic is barred.
func TestNoTopicIsBarredWhereNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{})
		b.set(forbids("a/0"))
		k := &refuser{}
		for range 60 {
			c.PublishBatch(on(1, k, 3, 3))
			time.Sleep(time.Minute)
		}
		b.set(nil)
		time.Sleep(20 * time.Second)
		if len(k.given()) > 0 || k.count() != 180 {
			t.Errorf("%d given up, told of %d", len(k.given()), k.count())
		}
	})
}
