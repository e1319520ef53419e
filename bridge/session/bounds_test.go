package session

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a broker can make this side hold, wait or work for. Rows of docs/bounds.md name
// these tests.

// Ten million of each would do too; a connection ends as soon as it is clear.
func TestAnswersToNothingEndTheConnection(t *testing.T) {
	const flood = 4*maxStray + 8
	for name, one := range map[string][]byte{
		"PUBACK":   frame(0x40, 0xff, 0xff),
		"PUBREC":   frame(0x50, 0x12, 0x34),
		"PUBREL":   frame(0x62, 0x12, 0x34),
		"PUBCOMP":  frame(0x70, 0x12, 0x34),
		"UNSUBACK": frame(0xb0, 0x12, 0x34),
		"PINGRESP": frame(0xd0),
	} {
		t.Run(name, func(t *testing.T) {
			const at = 1000
			chunks := [][]byte{hello}
			for range flood / at {
				chunks = append(chunks, slices.Repeat(one, at))
			}
			o, err := carry(chunks...)
			if err != errStray {
				t.Errorf("got %v", err)
			}
			if n := len(o.Written) / ackSize; n > maxStray+maxBatch {
				t.Errorf("%d replies were written", n)
			}
			if o, err := carry(hello, slices.Repeat(one, maxStray/2)); err != nil {
				t.Errorf("half of it: %v, %v", o.Err, err)
			}
		})
	}
}

// A broker that answers each message twice is known to happen, and may do so for ever.
func TestAnswersThatFitMakeUpForSomeThatDoNot(t *testing.T) {
	c := newMQTTConn(&memConn{}, &inbox{handle: func([]Message) {}}, newOutbox(100), codec311{}) // without a writer: publish writes
	c.accepted(false)
	defer c.end()
	out := c.outbox
	out.attach(c, false)
	for range maxStray + 1000 {
		c.outbox.add([]Publication{{Topic: []byte("t"), QoS: 1}})
		c.publish()
		f := &out.flows[0]
		id := f.ids.of(f.head)
		for range 2 {
			c.pubAcks = append(c.pubAcks, pubAck{typePuback, 0, id})
		}
		if err := c.deliverAcks(); err != nil {
			t.Fatal(err)
		}
	}
	if out.outstanding.Load() != 0 {
		t.Errorf("%d outstanding", out.outstanding.Load())
	}
}

// A sign of life allows as many again: else a connection that lasts would end one day.
func TestAnswersToNothingAreCountedBetweenSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		for range 5 {
			p.send(slices.Repeat(pingResponse, maxStray-1))
			time.Sleep(30 * time.Second)
		}
		if s := c.State(); s.Connects != 1 || !s.Connected {
			t.Errorf("%+v", s)
		}
	})
}

func TestAPacketThatIsNeverFinishedEndsTheConnection(t *testing.T) {
	large := frame(0x30, make([]byte, 4<<20)...)
	large[6] = 1
	large[7] = 't'
	for name, packet := range map[string][]byte{
		"PUBLISH":           publish(qos1, "t", 1, strings.Repeat("x", 1000)),
		"oversized PUBLISH": large,
		"length":            {0x30, 0x80, 0x80, 0x80, 0x01},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}}, b.use)
				p := b.greet(false, 0)
				p.send(publish(qos0, "t", 0, "x"), packet[:1])
				every := time.Second
				if len(packet) < 10 {
					every = 20 * time.Second
				}
				begin := time.Now()
				for _, one := range packet[1:] {
					time.Sleep(every)
					if _, err := p.Write([]byte{one}); err != nil {
						break
					}
				}
				c.reached("lost", lostWith(errUnfinished.Error()))
				if d := time.Since(begin); d < frameTime || d > 3*frameTime/2+30*time.Second {
					t.Errorf("lost after %v", d)
				}
			})
		})
	}
}

// 2,400 bit/s, and packets of every kind one behind the other.
func TestASlowLineIsNotTakenForABrokerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		b.mute = true // a PINGRESP would come in the midst of a packet
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		stream := slices.Concat(publish(qos0, "t", 0, strings.Repeat("x", 60_000)), publish(qos0, "t", 0, strings.Repeat("x", MaxMessage)), pingResponse,
			publish(qos0, "t", 0, "end"))
		for piece := range slices.Chunk(stream, 300) {
			time.Sleep(time.Second)
			p.send(piece)
		}
		if ms := c.messages(3); ms[1].Size != MaxMessage || string(ms[2].Payload) != "end" {
			t.Errorf("%d messages", len(ms))
		}
		if s := c.State(); s.Connects != 1 || !s.Connected {
			t.Errorf("%+v", s)
		}
	})
}

// The time is that of one packet.
func TestThePauseInEachPacketCountsForThatOneAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		b.mute = true
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		m := publish(qos0, "t", 0, "payload")
		p.send(m[:4])
		for range 20 { // ends with the first bytes of the next
			time.Sleep(12 * time.Second)
			p.send(m[4:8])
			time.Sleep(12 * time.Second)
			p.send(m[8:], m[:4])
		}
		large := publish(qos0, "t", 0, strings.Repeat("x", MaxMessage))
		for range 3 {
			time.Sleep(12 * time.Second)
			p.send(m[4:5])
			m = append(m[:4:4], m[5:]...)
		}
		p.send(m[4:], large[:100])
		for range 2 {
			time.Sleep(20 * time.Second)
			p.send(large[100:101])
			large = append(large[:100:100], large[101:]...)
		}
		p.send(large[100:])
		if ms := c.messages(22); !ms[21].Oversize {
			t.Errorf("%+v", ms[21])
		}
		if s := c.State(); s.Connects != 1 || !s.Connected {
			t.Errorf("%+v", s)
		}
	})
}

// The names in a certificate, the words of a proxy: what the other side says is shown, and
// not all of it.
func TestWhatTheOtherSideSaysIsCutInLogAndState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := errors.New("begin " + strings.Repeat("ü", 1<<16) + " end")
		c := start(t, Options{URLs: []string{"mqtt://a", "mqtt://b"}}, func(s *Session) {
			s.open = func(context.Context, *url.URL) (net.Conn, error) { return nil, long }
		})
		text := c.reached("failed", lostWith("begin")).LastErr
		if len(text) > maxErrorText || !strings.HasSuffix(text, " end") || !strings.Contains(text, "ü […] ü") {
			t.Errorf("%d bytes: %.100q", len(text), text)
		}
		time.Sleep(time.Hour)
		if n := len(c.log.String()); n > 20*maxErrorText {
			t.Errorf("%d bytes of log", n)
		}
		for line := range c.connLog.lines {
			if len(line) > maxErrorText+100 {
				t.Errorf("a cause of %d bytes is kept", len(line))
			}
		}
	})
}
