package session

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// What a broker of MQTT 5 takes, as its CONNACK says, and what it refuses.

func TestWhatABrokerTakesIsKept(t *testing.T) {
	t.Run("receive maximum", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start5(t, b, Options{Status: &Status{Topic: "status"}})
			c.PublishBatch(append(batchOf(1, nil, "1", "2", "3", "4", "5"), batchOf(2, nil, "6", "7")...))
			p := b.greet5(0x21, 0, 3)
			c.reached("connected", connected)
			synctest.Wait()
			for left := 8; left > 0; { // and the status
				waiting := len(p.in5)
				if waiting > 3 {
					t.Fatalf("%d are on their way at once, want 3 at most", waiting)
				}
				for range waiting {
					m := expect5[*packets.Publish](p)
					left--
					if m.QoS == 1 {
						p.send(ack5(0x40, m.PacketID, 0))
						continue
					}
					p.send(ack5(0x50, m.PacketID, 0))
				}
				synctest.Wait()
				for range len(p.in5) {
					if cp := <-p.in5; cp.Type == packets.PUBREL {
						p.send(ack5(0x70, cp.PacketID(), 0))
					} else {
						p.in5 <- cp
					}
				}
				synctest.Wait()
			}
			if c.Outstanding() != 0 {
				t.Errorf("%d outstanding", c.Outstanding())
			}
		})
	})
	for name, c := range map[string]struct {
		told  int
		props []byte
	}{"packet size": {0, []byte{0x27, 0, 0, 0, 100}}, "packet size of the configuration": {100, nil}, "the smaller of both": {100, []byte{0x27, 0, 0, 1, 0}}} {
		t.Run(name, func(t *testing.T) { keepsPacketSize(t, c.told, c.props) })
	}
	t.Run("QoS 1 and no retained messages", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start5(t, b, Options{})
			out := new(fate)
			c.PublishBatch([]Publication{{Topic: []byte("t"), QoS: 2, Retain: true, Payload: []byte("x"), Origin: out}})
			p := b.greet5(0x24, 1, 0x25, 0)
			c.reached("connected", connected)
			c.PublishBatch([]Publication{{Topic: []byte("t"), QoS: 2, Retain: true, Payload: []byte("x"), Origin: out}})
			for range 2 {
				m := expect5[*packets.Publish](p)
				if m.QoS != 1 || m.Retain || string(m.Payload) != "x" {
					t.Errorf("%v", m)
				}
				p.send(ack5(0x40, m.PacketID, 0))
			}
			synctest.Wait()
			if out.n != 2 {
				t.Errorf("told of %d", out.n)
			}
		})
	})
	t.Run("keep alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start5(t, b, Options{KeepAlive: time.Hour})
			p := b.greet5(0x13, 0, 10)
			c.reached("connected", connected)
			time.Sleep(11 * time.Second)
			if n := len(p.in5); n < 2 {
				t.Errorf("%d PINGREQs in 11 s", n)
			}
		})
	})
	t.Run("QoS 0 alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start5(t, b, Options{})
			b.greet5(0x24, 0).ended()
			synctest.Wait()
			if s := c.State(); s.Connected || !strings.Contains(s.LastErr, "QoS 0 alone") {
				t.Errorf("%+v", s)
			}
		})
	})
}

// With a Receive Maximum of 1 the status is a message like others: one at a time [MQTT-3.3.4-9].
func TestTheStatusKeepsTheReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Status: &Status{Topic: "status"}})
		c.PublishBatch(append(batchOf(1, nil, "1", "2"), batchOf(2, nil, "3", "4")...))
		p := b.greet5(0x21, 0, 1)
		c.reached("connected", connected)
		one := func(what string) *packets.Publish {
			t.Helper()
			synctest.Wait()
			if n := len(p.in5); n != 1 {
				t.Fatalf("%s: %d packets are on their way, want 1", what, n)
			}
			return expect5[*packets.Publish](p)
		}
		topics := map[string]int{}
		take := func(what string) {
			t.Helper()
			m := one(what)
			topics[m.Topic]++
			if m.QoS == 1 {
				p.send(ack5(0x40, m.PacketID, 0))
				return
			}
			p.send(ack5(0x50, m.PacketID, 0))
			expect5[*packets.Pubrel](p)
			p.send(ack5(0x70, m.PacketID, 0))
		}
		for range 5 {
			take("at the start")
		}
		synctest.Wait()
		if topics["status"] != 1 || c.Outstanding() != 0 {
			t.Errorf("published %v, outstanding %d", topics, c.Outstanding())
		}
		c.PublishBatch(batchOf(2, nil, "5"))
		m := one("before the end") // it is on its way when the session ends
		go c.stop()
		synctest.Wait()
		if n := len(p.in5); n != 0 {
			t.Fatalf("%d packets follow it, want none", n)
		}
		p.send(ack5(0x50, m.PacketID, 0))
		expect5[*packets.Pubrel](p)
		p.send(ack5(0x70, m.PacketID, 0))
		if m := one("at the end"); m.Topic != "status" || string(m.Payload) != statusOffline {
			t.Errorf("%v", m)
		}
	})
}

// keepsPacketSize: of two messages one is larger than the 100 bytes that the broker takes.
func keepsPacketSize(t *testing.T, told int, props []byte) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{MaxPacket: told})
		before, after := new(fate), new(fate)
		large := []Publication{{Topic: []byte("t"), Payload: make([]byte, 100), QoS: 1}, {Topic: []byte("t"), Payload: []byte("small"), QoS: 1}}
		c.PublishBatch(withOrigin(large, before))
		p := b.greet5(props...)
		c.reached("connected", connected)
		c.PublishBatch(withOrigin(large, after))
		for range 2 {
			m := expect5[*packets.Publish](p)
			if string(m.Payload) != "small" {
				t.Errorf("%v", m)
			}
			p.send(ack5(0x40, m.PacketID, 0))
		}
		synctest.Wait()
		for name, o := range map[string]*fate{"before": before, "after": after} {
			e, ok := errors.AsType[*NotAcceptedError](o.err)
			if !ok || e.Code != reasonTooLarge || o.n != 1 || !errors.Is(o.err, ErrRefused) {
				t.Errorf("%s the connection: %d published, lost: %v", name, o.n, o.err)
			}
		}
	})
}

// A status that the broker refuses is told of, and nothing else is the worse for it.
func TestAStatusThatIsRefusedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Status: &Status{Topic: "my/status"}})
		p := b.greet5()
		m := expect5[*packets.Publish](p)
		p.send(ack5(0x40, m.PacketID, 0x87))
		time.Sleep(time.Minute)
		if log := c.log.String(); strings.Count(log, "status not published") != 1 || !strings.Contains(log, `the broker refuses it: not authorized (0x87); check whether it allows publishing to \"my/status\"`) {
			t.Errorf("log: %s", log)
		}
		if s := c.State(); !s.Connected || s.Connects != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// withOrigin is a copy of a batch with another origin.
func withOrigin(batch []Publication, o Origin) []Publication {
	batch = slices.Clone(batch)
	for i := range batch {
		batch[i].Origin = o
	}
	return batch
}

func TestARefusedMessageIsDoneWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{})
		p := b.greet5()
		c.reached("connected", connected)
		refused, taken := new(fate), new(fate)
		c.PublishBatch(append(batchOf(1, refused, "1"), append(batchOf(2, refused, "2"), append(batchOf(1, taken, "3"), batchOf(2, taken, "4")...)...)...))
		for range 4 {
			m := expect5[*packets.Publish](p)
			kind := byte(0x30 + 0x10*m.QoS)
			switch {
			case string(m.Payload) < "3":
				p.send(ack5(kind, m.PacketID, 0x87, text5(0x1f, "not for you")...))
			case m.QoS == 1:
				p.send(ack5(kind, m.PacketID, 0))
			default:
				p.send(ack5(kind, m.PacketID, 0))
				expect5[*packets.Pubrel](p)
				p.send(ack5(0x70, m.PacketID, 0))
			}
		}
		synctest.Wait()
		if e, ok := errors.AsType[*NotAcceptedError](refused.err); !ok || e.Code != 0x87 || refused.n != 0 || refused.lost != 2 {
			t.Errorf("refused: %+v", refused)
		}
		if taken.n != 2 || taken.lost != 0 {
			t.Errorf("taken: %+v", taken)
		}
		if s := c.State(); !s.Connected || s.Outstanding != 0 {
			t.Errorf("%+v", s)
		}
		if log := c.log.String(); !strings.Contains(log, `not authorized (0x87): \"not for you\"`) || strings.Count(log, "does not take a message") != 1 {
			t.Errorf("log: %s", log)
		}
	})
}
