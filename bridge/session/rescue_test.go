package session

import (
	"strings"
	"testing"
	"testing/synctest"
)

// keeper is an Origin that rescues what it is asked to, but for one payload.
type keeper struct {
	teller
	kept   []string
	refuse string
}

func (k *keeper) Rescue(p *Publication) bool {
	if string(p.Payload) == k.refuse {
		return false
	}
	line := string(p.Topic) + "=" + string(p.Payload)
	if p.Retain {
		line += " retain"
	}
	k.kept = append(k.kept, line+" "+string('0'+rune(p.QoS)))
	return true
}

func TestWhatTheBrokerHasNotAtTheEndCanBeRescued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 3}, b.use)
		o := &keeper{refuse: "r"}
		long := strings.Repeat("p", 300) // its length takes two bytes in the frame
		batch := batchOf(1, o, "a", "b", "", "r")
		batch = append(batch, Publication{Topic: []byte("long/topic"), Payload: []byte(long), QoS: 2, Retain: true, Origin: o})
		c.PublishBatch(batch)
		p := b.greet(false, 0)
		ids := p.published("t=a 1", "t=b 1", "t= 1")
		p.reply(typePuback, ids["b"]) // the broker has it, though not its turn
		synctest.Wait()
		c.stop()
		equal(t, "told", o.told, "published 1, 1 bytes", "lost 1, 1 bytes: "+ErrStopped.Error())
		equal(t, "rescued", func() []string { return o.kept }, "t=a 1", "t= 1", "long/topic="+long+" retain 2")
		if n := c.Outstanding(); n != 0 {
			t.Errorf("%d outstanding", n)
		}
	})
}
