package session

import (
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// released takes the PUBRELs that come before the next message, and returns that.
func (p *peer) released() (ids []uint16, next *packets.PublishPacket) {
	p.t.Helper()
	for {
		switch cp := p.next().(type) {
		case *packets.PubrelPacket:
			ids = append(ids, cp.MessageID)
		case *packets.PublishPacket:
			return ids, cp
		default:
			p.t.Fatalf("got %T %v", cp, cp)
		}
	}
}

// What a process before this one left at the broker is let go, once, and before it is
// in the way; but not what this one has on the way.
func TestWhatAnEarlierProcessLeftAtTheBrokerIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		o := &teller{}
		p := b.greet(true, 0)
		c.reached("connected", connected)
		c.PublishBatch(batchOf(2, o, "a", "b"))
		ids, m := p.released()
		if len(ids) != 1024 || show(m) != "t=a 2" {
			t.Fatalf("%d released before %s", len(ids), show(m))
		}
		for i, id := range ids {
			if id != 0x4000+uint16(i) {
				t.Fatalf("released %#x in place %d", id, i)
			}
		}
		_ = p.Close() // and it is not known whether it was done
		p = b.greet(true, 0)
		if ids, m = p.released(); len(ids) != 1022 || show(m) != "t=a 2 dup" {
			t.Fatalf("%d released before %s", len(ids), show(m))
		}
		for _, id := range ids {
			p.reply(typePubcomp, id)
		}
		synctest.Wait()
		_ = p.Close()
		p = b.greet(true, 0)
		if ids, m = p.released(); len(ids) != 0 || show(m) != "t=a 2 dup" {
			t.Fatalf("%d released before %s", len(ids), show(m))
		}
	})
}

// While the broker's count is full of what was left it takes none of QoS 1 either.
func TestWhatAnEarlierProcessLeftIsReleasedBeforeQoS1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(true, 0)
		c.reached("connected", connected)
		c.PublishBatch(batchOf(0, &teller{}, "no"))
		if ids, m := p.released(); len(ids) > 0 || m.Qos != 0 {
			t.Fatalf("%d released before a message of QoS %d", len(ids), m.Qos)
		}
		c.PublishBatch(batchOf(1, &teller{}, "a"))
		if ids, m := p.released(); len(ids) != 1024 || m.Qos != 1 {
			t.Fatalf("%d released before a message of QoS %d", len(ids), m.Qos)
		}
		c.PublishBatch(batchOf(2, &teller{}, "b"))
		if ids, m := p.released(); len(ids) > 0 || m.Qos != 2 {
			t.Fatalf("%d released again before a message of QoS %d", len(ids), m.Qos)
		}
	})
}

// A broker that has no session has nothing to be let go, on any connection after it.
func TestNothingIsReleasedWhereThereWasNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		for _, present := range []bool{false, true} {
			p := b.greet(present, 0)
			c.reached("connected", connected)
			if !present {
				c.PublishBatch(batchOf(2, &teller{}, "a"))
			}
			if ids, m := p.released(); len(ids) != 0 || m.Qos != 2 {
				t.Errorf("present %v: %d released before %s", present, len(ids), show(m))
			}
			_ = p.Close()
		}
	})
}

// A broker that will not have it gets the messages all the same.
func TestABrokerThatWillNotReleaseGetsTheMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		o := &teller{}
		c.PublishBatch(batchOf(2, o, "a", "b"))
		for range maxFailures {
			p := b.greet(true, 0)
			expect[*packets.PubrelPacket](p)
			_ = p.Close()
		}
		p := b.greet(true, 0)
		if ids, _ := p.released(); len(ids) > 0 {
			t.Fatalf("%d released once more", len(ids))
		}
		_ = p.Close()
		p = b.greet(true, 0)
		p.takeAll(func([]string) bool { synctest.Wait(); return o.count() == 2 })
		equal(t, "told", o.told, "published 1, 2 bytes", "published 1, 2 bytes")
	})
}
