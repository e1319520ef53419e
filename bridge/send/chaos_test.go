package send_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

var chaosRuns = flag.Int("chaos", 10, "how many sequences of events TestNothingIsLostInAnyOrderOfEvents tries")

// chaos is a network on which hosts, the interface and rules come and go, in an order that chance gives.
type chaos struct {
	*rand.Rand
	t     *testing.T
	link  *link
	rig   *rig
	rules []mapping.SendRule
	sent  int // messages that were handed over
}

// Messages for single hosts, for a host of a rule, and for groups, with each key that has them wait or be sent
// again: whatever happens, and in whatever order, each of them ends as sent, lost or filtered, and nothing of
// it stays in memory or on disk. No host and no interface is away for ever.
func TestNothingIsLostInAnyOrderOfEvents(t *testing.T) {
	for seed := range *chaosRuns {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &chaos{Rand: rand.New(rand.NewPCG(uint64(seed), 7)), t: t, link: newLink()}
				c.link.buffer = []int{16 << 10, 212992}[seed%2]
				o := rigOptions{Changing: true}
				if seed%4 < 2 {
					o.Spool.On = fake.OpenSpool(t, t.TempDir(), 64<<20)
				}
				for id := range 120 {
					c.link.power(fmt.Sprintf("172.17.1.%d", id), c.IntN(3) == 0)
				}
				c.rules = c.some()
				c.rig = hostRig(t, c.link, o, c.rules...)
				for range 150 {
					c.event()
				}
				c.calm()
			})
		})
	}
}

// some are three rules, whose names and filters stay as they are over reloads.
func (c *chaos) some() []mapping.SendRule {
	return []mapping.SendRule{
		fake.SendRule(c.t, "lamps", "lamp/{id}", "239.1.1.1:5000", fake.ToHost(c.t, "172.17.1.{id}:5000"), c.feature(), c.feature()),
		fake.SendRule(c.t, "one", "one/+", "239.1.1.1:5000", fake.ToHost(c.t, "172.17.1.7:5001"), c.feature(), c.feature()),
		fake.SendRule(c.t, "group", "group/{id}", "239.1.1.{id}:5000", c.groupFeature(), c.groupFeature()),
	}
}

// feature is one that a rule may have, and groupFeature one that goes with a group.
func (c *chaos) feature() func(*mapping.SendRule) {
	if c.IntN(6) == 0 {
		return func(r *mapping.SendRule) {
			if r.Rate.IsZero() && !r.SendsAgain() {
				fake.Answered(c.t, "x/{source}")(r)
			}
		}
	}
	return c.groupFeature()
}

func (c *chaos) groupFeature() func(*mapping.SendRule) {
	over := []mapping.WhenOver{mapping.OverWait, mapping.OverLatest, mapping.OverDrop}[c.IntN(3)]
	down := []mapping.OnDown{mapping.OnDownSpool, mapping.OnDownLatest, mapping.OnDownDrop}[c.IntN(3)]
	all := []func(*mapping.SendRule){
		func(*mapping.SendRule) {},
		func(r *mapping.SendRule) {
			if r.Answer == nil {
				rate("50/s", over)(r)
			}
		},
		fake.OnDown(down),
		fake.MaxAge(time.Duration(1+c.IntN(20)) * time.Second),
		func(r *mapping.SendRule) {
			if r.Answer == nil {
				repeat(2, 20*time.Millisecond)(r)
			}
		},
	}
	return all[c.IntN(len(all))]
}

// event is one thing that happens.
func (c *chaos) event() {
	b := c.rig
	switch c.IntN(12) {
	case 0, 1, 2, 3:
		b.send.Handle(c.messages())
	case 4:
		time.Sleep(time.Duration(c.IntN(50)) * time.Millisecond)
	case 5:
		time.Sleep(time.Duration(c.IntN(6000)) * time.Millisecond)
	case 6:
		for range c.IntN(40) {
			c.link.power(fmt.Sprintf("172.17.1.%d", c.IntN(120)), c.IntN(2) == 0)
		}
	case 7:
		if c.IntN(2) == 0 {
			b.network.Set()
		} else {
			b.network.Set(fake.Iso0)
		}
		b.reconcile(b.ctx)
	case 8:
		if c.IntN(2) == 0 {
			c.rules = c.some()
		}
		b.off = nil
		if c.IntN(3) == 0 {
			b.off = map[string]*account.Disabled{c.rules[c.IntN(3)].Name: {Since: time.Now(), By: "a test"}}
		}
		b.reload(c.t, c.rules, nil)
	case 9:
		b.send.FindStuck(time.Now())
		b.send.SpillAgain()
		b.send.ExpireOld()
	case 10:
		if c.IntN(4) == 0 {
			b.flush(c.t, c.IntN(3))
		}
	case 11:
		synctest.Wait()
	}
}

// messages are a batch of some.
func (c *chaos) messages() []session.Message {
	batch := make([]session.Message, 0, 300)
	for range 1 + c.IntN(cap(batch)) {
		topic := fmt.Sprint([]string{"lamp/", "lamp/", "one/", "group/"}[c.IntN(4)], c.IntN(120))
		batch = append(batch, fake.Message(topic, fmt.Sprint(c.sent), byte(c.IntN(2))))
		c.sent++
	}
	return batch
}

// calm is the end of all trouble; some time later all is to be accounted for.
func (c *chaos) calm() {
	b, t := c.rig, c.t
	for id := range 120 {
		c.link.power(fmt.Sprintf("172.17.1.%d", id), true)
	}
	b.network.Set(fake.Iso0)
	b.off = nil
	for i := range c.rules { // what a rule has left on disk waits there while it is told not to use it
		c.rules[i].OnDown = mapping.OnDownSpool
	}
	b.reload(t, c.rules, nil)
	for i := range 40 {
		if i%10 == 0 { // who has nothing to get is not asked whether he is there again
			b.send.Handle(c.messages())
		}
		time.Sleep(10 * time.Second)
		b.send.FindStuck(time.Now())
		b.send.SpillAgain()
		b.send.ExpireOld()
	}
	b.settled("at the end", t)
	for _, s := range b.Status().Rules {
		ended := s.Sent - s.Again
		for _, n := range s.Drops {
			ended += n
		}
		for _, n := range s.Filtered {
			ended += n
		}
		if s.Received != ended {
			t.Errorf("%s: of %d messages %d were sent first, lost are %v and filtered %v", s.Name, s.Received, s.Sent-s.Again, s.Drops, s.Filtered)
		}
		if s.State != account.StateUp {
			t.Errorf("%s is %s: %s", s.Name, s.State, s.Reason)
		}
	}
}
