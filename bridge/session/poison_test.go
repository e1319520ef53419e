package session

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A sickBroker ends connections over PUBLISH as it is told to.
type sickBroker struct {
	*broker

	mu        sync.Mutex
	ends      func(nth int, m *packets.PublishPacket) bool // over the nth PUBLISH of a connection, not that of the status
	swallowed func(packets.ControlPacket) bool             // what is not acknowledged; nil: nothing
	got       []string                                     // what it acknowledged: topic and payload
	connects  int
}

func (b *sickBroker) serve() {
	ctx := b.t.Context()
	for {
		select {
		case conn := <-b.broker.conns:
			// With room, as a socket has: else neither end might read while both write.
			p := &peer{t: b.t, Conn: conn, in: make(chan packets.ControlPacket, 1<<12), inOrder: true}
			go p.readAll()
			b.obey(p)
			_ = p.Close()
			for range p.in { // until it has seen the end
			}
		case <-ctx.Done():
			return
		}
	}
}

func (b *sickBroker) obey(p *peer) {
	nth := 0
	for cp := range p.in {
		var answer []byte
		switch m := cp.(type) {
		case *packets.ConnectPacket:
			b.mu.Lock()
			b.connects++
			b.mu.Unlock()
			answer = connack(true, 0)
		case *packets.PublishPacket:
			if m.TopicName != "status" {
				nth++
			}
			if !b.takes(nth, m) {
				return
			}
			if m.Qos > 0 {
				answer = appendAck(nil, typePuback+m.Qos-1, m.MessageID) // or PUBREC
			}
		case *packets.PubrelPacket:
			answer = appendAck(nil, typePubcomp, m.MessageID)
		case *packets.PingreqPacket:
			answer = pingResponse
		}
		if _, connect := cp.(*packets.ConnectPacket); !connect && b.swallowed != nil && len(answer) > 0 && cp.Details().MessageID > 0 && b.swallowed(cp) {
			continue
		}
		if len(answer) > 0 {
			_, _ = p.Write(answer)
		}
	}
}

func (b *sickBroker) takes(nth int, m *packets.PublishPacket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case m.TopicName == "status":
		return true
	case b.ends != nil && b.ends(nth, m):
		return false
	}
	if one := m.TopicName + " " + string(m.Payload); !slices.Contains(b.got, one) { // else it is repeated
		b.got = append(b.got, one)
	}
	return true
}

func (b *sickBroker) set(ends func(int, *packets.PublishPacket) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends = ends
}

// refuser is an Origin that keeps what is refused.
type refuser struct {
	teller
	kept []string
}

func (k *refuser) Refused(p *Publication, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, fmt.Sprintf("%s %s", p.Topic, p.Payload))
}

// given is what it was given to keep.
func (k *refuser) given() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.kept)
}

func sick(t *testing.T, o Options) (*sickBroker, *client) {
	b := &sickBroker{broker: newPipeBroker(t)}
	go b.serve()
	o.URLs, o.Status = []string{b.url()}, &Status{"status"}
	return b, start(t, o, b.use)
}

// on is messages on topics a/0, a/1 and so on, by turns.
func on(qos byte, origin Origin, topics, n int) (batch []Publication) {
	for i := range n {
		batch = append(batch, Publication{Topic: fmt.Appendf(nil, "a/%d", i%topics), Payload: fmt.Append(nil, i), QoS: qos, Origin: origin})
	}
	return batch
}

// Whatever ails the broker, it is no message of ours: once it is well it gets all, soon
// and in order.
func TestABrokerThatIsIllCostsNoMessage(t *testing.T) {
	for name, ends := range map[string]func(int, *packets.PublishPacket) bool{
		"ends over each first":  func(nth int, _ *packets.PublishPacket) bool { return nth == 1 },
		"ends over each second": func(nth int, _ *packets.PublishPacket) bool { return nth == 2 },
		"ends over each third":  func(nth int, _ *packets.PublishPacket) bool { return nth == 3 },
	} {
		for _, qos := range []byte{1, 2} {
			for _, topics := range []int{1, 7} {
				t.Run(fmt.Sprintf("%s, QoS %d, %d topics", name, qos, topics), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b, c := sick(t, Options{GiveUpAfter: 3})
						b.set(func(nth int, m *packets.PublishPacket) bool { return nth == 1 || ends(nth, m) })
						k := &refuser{}
						const n = 40
						c.PublishBatch(on(qos, k, topics, n/2))
						time.Sleep(5 * time.Minute)
						b.set(ends)
						time.Sleep(5 * time.Minute)
						more := on(qos, k, topics, n)
						c.PublishBatch(more[n/2:])
						time.Sleep(5 * time.Minute)
						b.set(nil)
						time.Sleep(20 * time.Second)
						if lines := strings.Join(k.told(), ";"); strings.Contains(lines, "lost") || len(k.kept) > 0 || k.count() != n {
							t.Errorf("told of %d: %s", k.count(), lines)
						}
						if len(b.got) != n {
							t.Errorf("it has %d", len(b.got))
						}
					})
				})
			}
		}
	}
}

func TestAMessageThatTheBrokerRefusesIsKeptAndTheOthersGoOn(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: 3})
				b.set(func(_ int, m *packets.PublishPacket) bool { return m.TopicName == "a/3" })
				k := &refuser{}
				const n = 30
				c.PublishBatch(on(qos, k, 30, n))
				time.Sleep(2 * time.Minute)
				if k.count() != n || !slices.Equal(k.kept, []string{"a/3 3"}) || !strings.Contains(strings.Join(k.told(), ";"), "lost 1, 4 bytes: "+ErrRefused.Error()) {
					t.Errorf("told of %d: %v; kept %v", k.count(), k.told(), k.kept)
				}
				// 9 to 13, by how much of what was on its way each one had taken.
				if len(b.got) != n-1 || b.connects > 15 {
					t.Errorf("it has %d after %d connections", len(b.got), b.connects)
				}
				// Where the broker has ended connections in more ways before, one line stands for the rest.
				if log := c.log.String(); !strings.Contains(log, `given a message on topic \"a/3\", time and again, while it takes others; the message is given up`) && !strings.Contains(log, "more causes than are logged") {
					t.Error(log)
				}
			})
		})
	}
}

func TestAMessageIsNeverGivenUpWhereThatIsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 0})
		b.set(func(_ int, m *packets.PublishPacket) bool { return m.TopicName == "a/0" })
		k := &refuser{}
		for range 100 {
			c.PublishBatch(on(1, k, 10, 10))
			time.Sleep(time.Minute)
		}
		if lines := strings.Join(k.told(), ";"); strings.Contains(lines, "lost") || len(k.kept) > 0 {
			t.Error(lines)
		}
		b.set(nil)
		time.Sleep(20 * time.Second)
		if k.count() != 1000 {
			t.Errorf("told of %d", k.count())
		}
	})
}

// Where there is no other, there is nothing to tell an illness by.
func TestTheOnlyMessageIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 1})
		b.set(func(int, *packets.PublishPacket) bool { return true })
		k := &refuser{}
		c.PublishBatch(on(1, k, 1, 1))
		time.Sleep(10 * time.Minute)
		if k.count() > 0 {
			t.Error(k.told())
		}
		if s := c.State(); !strings.Contains(s.LastLoss, "it may be ill") {
			t.Error(s.LastLoss)
		}
		b.set(nil)
		time.Sleep(20 * time.Second)
		if k.count() != 1 {
			t.Errorf("told of %d", k.count())
		}
	})
}

// What the broker takes of the other quality of service tells as well.
func TestMessagesOfTheOtherQoSAreOthersToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		b.set(func(_ int, m *packets.PublishPacket) bool { return m.Qos == 1 })
		k := &refuser{}
		c.PublishBatch(on(1, k, 1, 1))
		for range 100 {
			c.PublishBatch(on(2, &teller{}, 1, 1))
			time.Sleep(time.Second)
		}
		if k.count() != 1 || len(k.kept) != 1 {
			t.Errorf("told of %d, kept %v", k.count(), k.kept)
		}
	})
}

// Nor does it help that more on its topic is on its way, as there is of a stream.
func TestOthersOnTheSameTopicDoNotKeepAMessageFromBeingGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		b.set(forbids("a/0"))
		k := &refuser{}
		c.PublishBatch(on(1, k, 2, 2))
		c.PublishBatch(on(1, k, 1, 20))
		time.Sleep(3 * time.Minute)
		if n := len(k.given()); n == 0 {
			t.Errorf("told of %d, kept %d: %s", k.count(), n, c.log)
		}
	})
}

// Where there is a spool, what would come next waits there for what is on its way.
func TestOneOtherMessageIsEnoughInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := sick(t, Options{GiveUpAfter: 3})
		b.set(func(_ int, m *packets.PublishPacket) bool { return m.TopicName == "a/0" })
		k := &refuser{}
		c.PublishBatch(on(1, k, 2, 2))
		time.Sleep(2 * time.Minute)
		if k.count() != 2 || !slices.Equal(k.kept, []string{"a/0 0"}) {
			t.Errorf("told of %d, kept %v: %s", k.count(), k.kept, c.log)
		}
	})
}

// Once a message on a topic was given up, what follows on it is found out alone: the broker
// need not take another one before, for there may be none any more, or only such as follow too.
func TestWhatFollowsOnATopicNeedsNoOther(t *testing.T) {
	for _, follow := range []int{1, 2} {
		t.Run(fmt.Sprint(follow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: 3})
				b.set(forbids("a/0"))
				k := &refuser{}
				c.PublishBatch(on(1, k, 2, 2))
				time.Sleep(2 * time.Minute)
				if got := k.given(); !slices.Equal(got, []string{"a/0 0"}) || k.count() != 2 {
					t.Fatalf("beside another one %q were given up, told of %d:\n%s", got, k.count(), c.log)
				}
				c.PublishBatch(on(1, k, 1, follow))
				time.Sleep(5 * time.Minute)
				if got := k.given(); len(got) != 1+follow || k.count() != 2+follow {
					t.Errorf("with no other %q were given up, told of %d:\n%s", got, k.count(), c.log)
				}
			})
		})
	}
}

// A rule that publishes its next messages when it has heard of the last ones goes on beside
// one whose messages are all forbidden, be they of one topic or of many.
func TestWhoWaitsForTheOutcomeGoesOnBesideWhatIsForbidden(t *testing.T) {
	for _, topics := range []int{1, 12} {
		t.Run(fmt.Sprintf("%d topics", topics), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := sick(t, Options{GiveUpAfter: 3})
				b.set(func(_ int, m *packets.PublishPacket) bool { return strings.HasPrefix(m.TopicName, "a/") })
				bad, good := &refuser{}, &teller{}
				c.PublishBatch(on(1, bad, topics, 12))
				sent := 0
				for range 10 * 60 {
					if good.count() == sent {
						for range 3 {
							c.PublishBatch([]Publication{{Topic: []byte("good"), Payload: fmt.Append(nil, sent), QoS: 1, Origin: good}})
							sent++
						}
					}
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if len(bad.given()) != 12 || bad.count() != 12 || c.State().Outstanding > 3 {
					t.Errorf("%d of 12 were given up, %d wait:\n%s", len(bad.given()), c.State().Outstanding, c.log)
				}
				if want := 3 * 30; sent < want {
					t.Errorf("%d others went on in ten minutes, want %d", sent, want)
				}
				if told := strings.Join(good.told(), ";"); strings.Contains(told, "lost") {
					t.Error(told)
				}
			})
		})
	}
}
