//go:build unix

package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Over TCP whoever publishes has a socket to read, and goes back to it at once.
func TestNeitherPublisherNorReaderWaitsForABrokerThatDoesNotRead(t *testing.T) {
	for _, reads := range []bool{true, false} {
		b := newBroker(t)
		c := start(t, Options{URLs: []string{b.url()}})
		p := b.acceptConnect()
		p.send(connack(false, 0))
		c.reached("connected", connected)
		const n, size = 200, 100_000 // more than the kernel takes
		o, zero := &teller{}, &teller{}
		begin := time.Now()
		c.PublishBatch(batchOf(0, zero, "begin"))
		for i := range n {
			c.PublishBatch(batchOf(1, o, fmt.Sprint(i, strings.Repeat(" ", size))))
		}
		c.PublishBatch(batchOf(0, zero, "end"))
		for i := range 100 {
			p.send(publish(qos1, "m", uint16(i+1), "x"))
		}
		c.messages(100)
		if d := time.Since(begin); d >= writeTimeout { // as long as whoever waited would have
			t.Errorf("took %v", d)
		}
		want := n
		if reads {
			go p.readAll()
		} else {
			_ = p.Close()
			p = b.greet(true, 0)
		}
		acks := 0
		for i := 0; i < want; {
			switch m := p.next().(type) {
			case *packets.PubackPacket:
				acks++
			case *packets.PublishPacket:
				if m.Qos == 0 {
					continue
				}
				if got := strings.TrimSpace(string(m.Payload)); got != fmt.Sprint(i) {
					t.Fatalf("got %s, want %d", got, i)
				}
				i++
				p.reply(typePuback, m.MessageID)
			default:
				t.Fatalf("got %T", m)
			}
		}
		for c.Outstanding() > 0 || reads && acks < 100 {
			select {
			case cp := <-p.in:
				if _, ok := cp.(*packets.PubackPacket); ok {
					acks++
				}
			case <-time.After(time.Millisecond):
			}
			if time.Since(begin) > 2*patience {
				t.Fatalf("%d outstanding, %d of 100 messages acknowledged", c.Outstanding(), acks)
			}
		}
		if o.count() != n || zero.count() != 2 {
			t.Errorf("told of %d and %d", o.count(), zero.count())
		}
		if got := strings.Join(append(o.told(), zero.told()...), ";"); reads == strings.Contains(got, "lost") {
			t.Errorf("reads %v: %s", reads, got)
		}
	}
}
