package session

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// qos0Stream publishes one message of QoS 0 on each of some topics, each two seconds, for a time.
func qos0Stream(c *client, k *refuser, sent *int, topics []string, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Second) {
		var batch []Publication
		for _, topic := range topics {
			batch = append(batch, Publication{Topic: []byte(topic), Payload: fmt.Append(nil, *sent), Origin: k})
			*sent++
		}
		c.PublishBatch(batch)
	}
}

// A stream of messages of QoS 0 on a topic that the broker forbids costs a few connections, and
// then one now and then; all others go on.
func TestATopicThatTheBrokerForbidsIsBarredForQoS0(t *testing.T) {
	for _, tt := range []struct {
		name       string
		topics     []string
		search     int // connections until it is barred, at most
		least, max int // in an hour
	}{
		{"among others", []string{"a/0", "a/1", "a/2"}, 12, 10, 16},
		{"the only one", []string{"a/1"}, 12, 50, 64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: 3})
				b.set(forbids("a/1"))
				k, sent := &refuser{}, 0
				qos0Stream(c, k, &sent, tt.topics, time.Minute)
				if n := b.since(); n > tt.search {
					t.Errorf("%d connections until it is barred", n)
				}
				const text = "the broker takes no messages of QoS 0 on a topic"
				if lines := c.log.lines(text); len(lines) != 1 || !strings.Contains(lines[0], "topic=a/1") {
					t.Fatalf("%q in:\n%s", lines, c.log)
				}
				was, taken, given := sent, b.taken(), len(k.given())
				qos0Stream(c, k, &sent, tt.topics, time.Hour)
				synctest.Wait()
				n := b.since()
				if n < tt.least || n > tt.max {
					t.Errorf("%d connections in an hour", n)
				}
				// What comes while there is no connection is lost as ever.
				each, others := (sent-was)/len(tt.topics), len(tt.topics)-1
				if got := len(k.given()) - given; got < each-2*n {
					t.Errorf("%d of %d were given up", got, each)
				}
				if got := b.taken() - taken; got < others*(each-2*n) {
					t.Errorf("%d of %d others were taken", got, others*each)
				}
				b.set(nil) // allowed again, it is as any other after one trial
				qos0Stream(c, k, &sent, tt.topics, maxTopicProbe+time.Second)
				given = len(k.given())
				b.since()
				qos0Stream(c, k, &sent, tt.topics, time.Minute)
				synctest.Wait()
				if len(k.given()) != given || len(c.log.lines("takes messages on a topic again")) != 1 || b.since() > 0 {
					t.Errorf("allowed again: %d given up:\n%s", len(k.given())-given, c.log)
				}
			})
		})
	}
}

// However many topics are forbidden, the trials of those that are barred are few.
func TestManyTopicsThatAreForbiddenForQoS0CostFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		var topics []string
		for i := range 20 {
			topics = append(topics, fmt.Sprint("forbidden/", i))
		}
		b.set(forbids(topics...))
		topics = append([]string{"a/0"}, topics...)
		k, sent := &refuser{}, 0
		qos0Stream(c, k, &sent, topics, 10*time.Minute)
		if lines := c.log.lines("the broker takes no messages of QoS 0 on a topic"); len(lines) != 20 {
			t.Errorf("%d are barred", len(lines))
		}
		b.since()
		qos0Stream(c, k, &sent, topics, time.Hour)
		if n := b.since(); n > int(time.Hour/probeSpacing) {
			t.Errorf("%d connections in an hour", n)
		}
	})
}

// What is barred for QoS 1 is barred for QoS 0 too; where nothing is given up, nothing is.
func TestATopicThatIsBarredIsSoForQoS0(t *testing.T) {
	for _, giveUpAfter := range []int{3, 0} {
		t.Run(fmt.Sprint("give up after ", giveUpAfter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: giveUpAfter})
				b.set(forbids("a/1"))
				k := &refuser{}
				if giveUpAfter > 0 {
					for range 60 {
						c.PublishBatch(on(1, k, 3, 3))
						time.Sleep(2 * time.Second)
					}
				}
				synctest.Wait()
				given, sent := len(k.given()), 0
				b.since()
				qos0Stream(c, k, &sent, []string{"a/1"}, 5*time.Minute)
				n := b.since()
				if giveUpAfter > 0 && (n > 8 || len(k.given()) == given) {
					t.Errorf("%d connections, %d given up:\n%s", n, len(k.given())-given, c.log)
				}
				if giveUpAfter == 0 && (n < 60 || len(k.given()) > 0) {
					t.Errorf("never: %d connections, %d given up:\n%s", n, len(k.given()), c.log)
				}
			})
		})
	}
}

// Connections that end for other reasons, soon after messages of QoS 0, bar no topic, nor does one
// wait once the broker has shown that it takes its topic.
func TestEndsForOtherReasonsBarNoTopicOfQoS0(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		k, sent := &refuser{}, 0
		topics := []string{"a/0", "a/1", "a/2", "a/3", "a/4"}
		phase := func(d time.Duration, ends func(nth int) bool) {
			t.Helper()
			b.set(func(nth int, _ *packets.PublishPacket) bool { return ends(nth) })
			qos0Stream(c, k, &sent, topics, d)
			synctest.Wait()
			if len(k.given()) > 0 || len(c.log.lines("no messages of QoS 0 on a topic")) > 0 {
				t.Fatalf("%d given up:\n%s", len(k.given()), c.log)
			}
		}
		never := func(int) bool { return false }
		seventh := func(nth int) bool { return nth == 7 }
		phase(12*time.Second, seventh)
		phase(time.Minute, never)
		c.outbox.mu.Lock()
		if len(c.outbox.qos0.taken) != len(topics) {
			t.Errorf("%d topics are known to be taken", len(c.outbox.qos0.taken))
		}
		c.outbox.mu.Unlock()
		c.Repeat()                                                 // a connection ends for a reason of ours
		phase(time.Minute, func(nth int) bool { return nth == 1 }) // which is one that it took before
		phase(time.Minute, never)
		phase(10*time.Minute, seventh)
		phase(time.Minute, never)
		was := b.taken()
		phase(qos0Search+time.Minute, never)
		if got, want := b.taken()-was, len(topics)*int((qos0Search+time.Minute)/(2*time.Second)); got != want {
			t.Errorf("%d of %d were taken", got, want)
		}
		c.outbox.mu.Lock()
		defer c.outbox.mu.Unlock()
		if c.outbox.qos0.taken != nil {
			t.Error("the search has no end")
		}
	})
}

// A broker that is ill may close each connection over its first message, whichever that is. Its
// topic is as any other soon after the broker is well again.
func TestATopicOfQoS0ThatIsBarredInDoubtIsTriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		b.set(func(nth int, _ *packets.PublishPacket) bool { return nth == 1 })
		k, sent := &refuser{}, 0
		topics := []string{"a/0", "a/1"}
		qos0Stream(c, k, &sent, topics, time.Hour)
		b.set(nil)
		qos0Stream(c, k, &sent, topics, 2*maxDoubtfulProbe+10*time.Second)
		given := len(k.given())
		qos0Stream(c, k, &sent, topics, 10*time.Minute)
		if n := len(k.given()) - given; n > 0 {
			t.Errorf("%d given up:\n%s", n, c.log)
		}
	})
}

func TestTheTopicsThatAreKnownToBeTakenAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		c.reached("connected", connected)
		c.outbox.mu.Lock()
		c.outbox.qos0.taken = make(map[string]bool)
		c.outbox.mu.Unlock()
		k := &refuser{}
		const n = maxTakenTopics + 100
		for i := range n {
			c.PublishBatch([]Publication{{Topic: fmt.Append(nil, i), Origin: k}})
		}
		synctest.Wait()
		c.outbox.mu.Lock()
		defer c.outbox.mu.Unlock()
		if known := len(c.outbox.qos0.taken); known != n-maxTakenTopics || b.taken() != n {
			t.Errorf("%d topics are known to be taken, of %d", known, b.taken())
		}
	})
}
