package session

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// resolver is what a broker knows of the aliases of a connection.
type resolver struct {
	most   int
	topics map[uint16]string
	plain  int // messages without an alias
	set    int // with an alias and a topic
	short  int // with an alias alone
}

// topic is the topic of a message, as a broker finds it.
func (r *resolver) topic(t testing.TB, m *packets.Publish) string {
	t.Helper()
	if r.topics == nil {
		r.topics = make(map[uint16]string)
	}
	a := m.Properties.TopicAlias
	switch {
	case a == nil && m.Topic == "":
		t.Fatal("a message with neither topic nor alias")
	case a == nil:
		r.plain++
		return m.Topic
	case *a == 0 || int(*a) > r.most:
		t.Fatalf("alias %d, and the broker takes 1 to %d", *a, r.most)
	case m.Topic != "":
		r.set++
		r.topics[*a] = m.Topic
		return m.Topic
	case r.topics[*a] == "":
		t.Fatalf("alias %d before it is set", *a)
	}
	r.short++
	return r.topics[*a]
}

func to(topic string, qos byte, payload string) []Publication {
	return []Publication{{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}}
}

// The first message on a topic sets its alias, later ones have the alias alone, and so on each connection anew.
func TestTopicAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{TopicAliases: true})
		p := b.greet5(0x22, 0, 2)
		c.reached("connected", connected)
		step := func(p *peer5, r *resolver, topic string, qos byte, ack bool) {
			t.Helper()
			c.PublishBatch(to(topic, qos, topic))
			m := expect5[*packets.Publish](p)
			if got := r.topic(t, m); got != topic || string(m.Payload) != topic || m.QoS != qos {
				t.Errorf("%q: it is %v", topic, m)
			}
			if qos > 0 && ack {
				p.send(ack5(0x30+0x10*qos, m.PacketID, 0))
			}
			if qos == 2 && ack {
				expect5[*packets.Pubrel](p)
				p.send(ack5(0x70, m.PacketID, 0))
			}
		}
		r := &resolver{most: 2}
		for qos := range byte(3) {
			step(p, r, "abc", qos, true) // no longer than an alias
			step(p, r, "site/one", qos, true)
			step(p, r, "site/two", qos, true)
			step(p, r, "site/three", qos, true)
			step(p, r, strings.Repeat("x", maxAliased+1), qos, true)
		}
		if r.set != 2 || r.short != 4 || r.plain != 9 || r.topics[1] != "site/one" {
			t.Errorf("%+v", r)
		}
		if l := c.State().Limits; l.TopicAliasMaximum != 2 {
			t.Errorf("%+v", l)
		}
		step(p, r, "site/two", 1, false)
		step(p, r, "site/two", 2, false)
		step(p, r, "site/one", 1, false)
		_ = p.Close()
		p = b.accept5()
		expect5[*packets.Connect](p)
		p.send(connack5(true, 0, 0x22, 0, 64))
		again := &resolver{most: 64}
		for range 3 {
			m := expect5[*packets.Publish](p)
			if got := again.topic(t, m); got != string(m.Payload) || !m.Duplicate {
				t.Errorf("%q: %v", got, m)
			}
			p.send(ack5(0x30+0x10*m.QoS, m.PacketID, 0))
			if m.QoS == 2 {
				expect5[*packets.Pubrel](p)
				p.send(ack5(0x70, m.PacketID, 0))
			}
		}
		step(p, again, "site/three", 0, true)
		step(p, again, "site/three", 0, true)
		if again.set != 3 || again.short != 2 {
			t.Errorf("after a reconnect: %+v", again)
		}
		_ = p.Close()
		p = b.greet5() // takes none now
		time.Sleep(time.Second)
		none := new(resolver)
		step(p, none, "site/one", 0, true)
		step(p, none, "site/one", 1, true)
		if none.plain != 2 {
			t.Errorf("%+v", none)
		}
	})
}

func TestTopicAliasesAreUsedOnlyIfAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{})
		p := b.greet5(0x22, 0, 10)
		c.reached("connected", connected)
		r := new(resolver)
		for range 2 {
			c.PublishBatch(to("site/one", 0, "x"))
			r.topic(t, expect5[*packets.Publish](p))
		}
		if r.plain != 2 {
			t.Errorf("%+v", r)
		}
	})
}

// Whatever comes, paced or not, of which length and with which properties: the broker finds the topic, and no
// packet is larger than it takes.
func TestTopicAliasesOfAnything(t *testing.T) {
	for _, rate := range []int{0, 1000} {
		t.Run(fmt.Sprint("rate ", rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const largest = 2000
				r := rand.New(rand.NewPCG(1, 2))
				b := newPipeBroker(t)
				c := start5(t, b, Options{TopicAliases: true, MaxRate: rate})
				p := b.greet5(0x22, 1, 0, 0x27, 0, 0, largest>>8, largest&0xff)
				c.reached("connected", connected)
				const n = 5000
				out := new(fate)
				is, got := &resolver{most: maxAliases}, map[string]int{}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for came := 0; came < n; came++ {
						m := expect5[*packets.Publish](p)
						topic := is.topic(t, m)
						got[topic]++
						if want, _, _ := strings.Cut(string(m.Payload), "|"); want != topic {
							t.Errorf("%q came as %q", want, topic)
						}
						var whole bytes.Buffer
						if _, _ = m.ToControlPacket().WriteTo(&whole); whole.Len() > largest {
							t.Errorf("a packet of %d bytes", whole.Len())
						}
						if m.QoS == 1 {
							p.send(ack5(0x40, m.PacketID, 0))
						}
					}
				}()
				for range n {
					topic := fmt.Sprintf("site/%d/%s", int(r.ExpFloat64()*30), strings.Repeat("x", r.IntN(3)*60))
					pub := Publication{Topic: []byte(topic), QoS: byte(r.IntN(2)), Origin: out}
					pub.Properties = ReplyProperties(make([]byte, r.IntN(4)*42))
					pub.Payload = []byte(topic + "|")
					form := form{protocol: Protocol5}
					if room := largest - publishSize(&pub, &form) - 1; r.IntN(4) == 0 { // as large as may be, or nearly
						pub.Payload = append(pub.Payload, make([]byte, max(room-r.IntN(6), 0))...)
					}
					c.PublishBatch([]Publication{pub})
				}
				<-done
				synctest.Wait()
				if out.n != n || out.lost > 0 || is.short < n/5 || len(got) < maxAliases {
					t.Errorf("%d published, %d lost (%v), %d topics, %+v", out.n, out.lost, out.err, len(got), is)
				}
			})
		})
	}
}

// Topics that come in turn, more than there are aliases, do not set one with each message, and one that comes
// often gets one whatever came before.
func TestTopicAliasesGoToTopicsThatComeOften(t *testing.T) {
	a := newAliases(10, 0)
	f := &form{protocol: Protocol5}
	publish := func(topic string) (saved int) {
		p := Publication{Topic: []byte(topic)}
		frame := appendPublish(nil, &p, 0, f)
		return len(frame) - len(a.append(nil, frame))
	}
	total := 0
	for range 100 {
		for i := range 100 {
			total += publish(fmt.Sprintf("many/topics/%03d", i))
		}
	}
	if total < 0 {
		t.Errorf("they cost %d bytes more than without", -total)
	}
	chance := rand.New(rand.NewPCG(1, 2)) // the same each time: it takes long in one run of some hundred
	hot := 0
	for range 1000 {
		if publish("the/hot/one") > 0 {
			hot++
		}
		for i := range 3 {
			publish(fmt.Sprintf("many/topics/%03d", chance.IntN(100)+i))
		}
	}
	if hot < 700 {
		t.Errorf("%d of 1000 by alias", hot)
	}
	if len(a.byName) != 10 || len(a.topics) != 10 {
		t.Errorf("%d aliases of 10", len(a.byName))
	}
}

func TestTopicAliasesAllocateNothing(t *testing.T) {
	a := newAliases(10, 0)
	f := &form{protocol: Protocol5}
	p := Publication{Topic: []byte("site/one"), QoS: 1, Payload: []byte("x")}
	frame := appendPublish(nil, &p, 7, f)
	b := a.append(nil, frame)
	if n := testing.AllocsPerRun(100, func() { b = a.append(b[:0], frame) }); n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
