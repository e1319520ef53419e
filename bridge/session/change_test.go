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
	"github.com/google/go-cmp/cmp"
)

// Subscriptions that change at run time.

// unsuback answers an UNSUBSCRIBE.
func (p *peer) unsuback() []string {
	p.t.Helper()
	u := expect[*packets.UnsubscribePacket](p)
	p.send(frame(0xb0, byte(u.MessageID>>8), byte(u.MessageID)))
	return u.Topics
}

func (c *client) set(subs ...Subscription) {
	c.t.Helper()
	if err := c.SetSubscriptions(subs); err != nil {
		c.t.Fatal(err)
	}
}

func grant(_ string, qos byte) byte { return qos }

// asksFor and givesBack hold the next request of a session to what is wanted.
func (p *peer) asksFor(filters ...string) {
	p.t.Helper()
	if diff := cmp.Diff(filters, p.codes(grant)); diff != "" {
		p.t.Error("SUBSCRIBE: " + diff)
	}
}

func (p *peer) givesBack(filters ...string) {
	p.t.Helper()
	if diff := cmp.Diff(filters, p.unsuback()); diff != "" {
		p.t.Error("UNSUBSCRIBE: " + diff)
	}
}

// quiet checks that nothing more comes.
func (p *peer) quiet() {
	p.t.Helper()
	synctest.Wait()
	if len(p.in) > 0 {
		p.t.Errorf("one packet too many: %v", p.next())
	}
}

func (c *client) allActive(n int) {
	c.t.Helper()
	synctest.Wait()
	subs := c.subscriptions()
	for _, sub := range subs {
		if !sub.Active || sub.Err != "" || sub.Granted != sub.QoS {
			c.t.Errorf("%+v", sub)
		}
	}
	if len(subs) != n {
		c.t.Errorf("%d subscriptions, want %d", len(subs), n)
	}
}

func TestAChangeAsksForWhatIsNewThenGivesBackWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "stays", QoS: 1}, {Filter: "goes/1", QoS: 1}, {Filter: "goes/2", QoS: 0}, {Filter: "less", QoS: 2}}}, b.use)
		p := b.greet(false, 1)
		c.allActive(4)
		c.set(Subscription{Filter: "goes/+", QoS: 1}, Subscription{Filter: "less", QoS: 1}, Subscription{Filter: "stays", QoS: 1})
		p.asksFor("goes/+", "less")
		p.givesBack("goes/1", "goes/2")
		p.quiet()
		c.allActive(3)
		c.set(Subscription{Filter: "stays", QoS: 1}, Subscription{Filter: "less", QoS: 1}, Subscription{Filter: "goes/+", QoS: 1}) // only the order
		p.quiet()
		c.set()
		p.givesBack("goes/+", "less", "stays")
		p.quiet()
		c.set(Subscription{Filter: "stays", QoS: 1})
		p.asksFor("stays")
		c.allActive(1)
		time.Sleep(2 * retryRefused)
		p.expectPings()
	})
}

// expectPings checks that nothing has come but signs of life.
func (p *peer) expectPings() {
	p.t.Helper()
	for len(p.in) > 0 {
		expectPing(p)
	}
}

func TestABadChangeChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "a", QoS: 1}}}, b.use)
		p := b.greet(false, 1)
		err := c.SetSubscriptions([]Subscription{{Filter: "b", QoS: 1}, {Filter: "c/#/d", QoS: 0}, {Filter: "e", QoS: 3}})
		if err == nil || !strings.Contains(err.Error(), `filter "c/#/d"`) || !strings.Contains(err.Error(), `filter "e": QoS 3`) {
			t.Errorf("got %v", err)
		}
		p.quiet()
		c.allActive(1)
		if got := c.subscriptions()[0].Filter; got != "a" {
			t.Errorf("subscribed to %s", got)
		}
	})
}

// What is known of a subscription stays while it does.
func TestARefusedSubscriptionIsNotAskedForAtEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "bad", QoS: 1}, {Filter: "low", QoS: 2}}}, b.use)
		p := b.greet(false, 0)
		p.codes(func(filter string, _ byte) byte {
			if filter == "bad" {
				return subackFailure
			}
			return 0
		})
		synctest.Wait()
		was := c.subscriptions()
		c.set(Subscription{Filter: "bad", QoS: 1}, Subscription{Filter: "low", QoS: 2}, Subscription{Filter: "new", QoS: 1})
		p.asksFor("new")
		p.quiet()
		if diff := cmp.Diff(was, c.subscriptions()[:2]); diff != "" {
			t.Error(diff)
		}
		time.Sleep(retryRefused)
		p.asksFor("bad")
		c.set(Subscription{Filter: "low", QoS: 2}, Subscription{Filter: "new", QoS: 1}, Subscription{Filter: "bad", QoS: 0}) // another one now
		p.asksFor("bad")
		p.quiet()
	})
}

func TestAChangeWithoutAConnectionIsTakenAtTheNext(t *testing.T) {
	for _, present := range []bool{true, false} {
		t.Run(fmt.Sprint("session present ", present), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "stays", QoS: 1}, {Filter: "goes", QoS: 1}, {Filter: "away", QoS: 1}}}, b.use)
				p := b.greet(false, 1)
				c.allActive(3)
				_ = p.Close()
				c.reached("lost", lostWith("closed"))
				c.set(Subscription{Filter: "stays", QoS: 1}, Subscription{Filter: "never", QoS: 1})
				c.set(Subscription{Filter: "stays", QoS: 1}, Subscription{Filter: "away", QoS: 1}, Subscription{Filter: "new", QoS: 1})
				p = b.greet(present, 0)
				p.asksFor("away", "new", "stays")
				if present {
					p.givesBack("goes")
				}
				p.quiet()
				c.allActive(3)
			})
		})
	}
}

// An earlier process may have filled the session that this one finds.
func TestAChangeBeforeTheFirstConnectionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		o := Options{URLs: []string{b.url()}, ClientID: "c", Subscriptions: []Subscription{{Filter: "goes", QoS: 1}}}
		c := start(t, o, b.use, func(s *Session) {
			if err := s.SetSubscriptions([]Subscription{{Filter: "new", QoS: 1}}); err != nil {
				t.Error(err)
			}
		})
		p := b.greet(true, 0)
		p.asksFor("new")
		p.givesBack("goes")
		p.quiet()
		c.allActive(1)
	})
}

func TestWhatIsGoneIsGivenBackUntilTheBrokerHasSaidSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "stays", QoS: 1}, {Filter: "goes", QoS: 1}}}, b.use)
		p := b.greet(false, 1)
		c.allActive(2)
		c.set(Subscription{Filter: "stays", QoS: 1})
		expect[*packets.UnsubscribePacket](p)
		_ = p.Close()
		p = b.greet(true, 0)
		p.asksFor("stays")
		expect[*packets.UnsubscribePacket](p) // and no answer
		time.Sleep(subackTimeout + retryUnanswered + time.Second)
		p.givesBack("goes")
		if !strings.Contains(c.log.String(), "no answer to UNSUBSCRIBE") {
			t.Error("nothing in the log")
		}
		_ = p.Close()
		p = b.greet(true, 0)
		p.asksFor("stays")
		p.quiet()
	})
}

// What changes while the broker has not answered yet.
func TestAChangeWhileASubscribeIsUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "goes", QoS: 1}, {Filter: "less", QoS: 2}}}, b.use)
		p := b.greet(false, 0)
		s := expect[*packets.SubscribePacket](p)
		c.set(Subscription{Filter: "less", QoS: 0}, Subscription{Filter: "new", QoS: 1})
		p.quiet()
		p.send(suback(s.MessageID, s.Qoss...))
		p.asksFor("less", "new")
		p.givesBack("goes")
		p.quiet()
		c.allActive(2)

		c.set(Subscription{Filter: "less", QoS: 0})
		u := expect[*packets.UnsubscribePacket](p)
		c.set(Subscription{Filter: "less", QoS: 0}, Subscription{Filter: "new", QoS: 1}) // it was meant to stay after all
		p.quiet()
		p.send(frame(0xb0, byte(u.MessageID>>8), byte(u.MessageID)))
		p.asksFor("new")
		p.quiet()
		c.allActive(2)
	})
}

// A filter that is wanted again is not unsubscribed, though it was about to be.
func TestAFilterThatIsWantedAgainWhileChunksAreGivenBackStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "a", QoS: 1}, {Filter: "b", QoS: 1}, {Filter: "c", QoS: 1}}}, b.use,
			func(s *Session) { s.subscriber.limitsOf(b.url()).shrink(make([]string, 8), false) })
		p := b.greet(false, 3)
		c.allActive(3)
		c.set()
		u := expect[*packets.UnsubscribePacket](p)
		c.set(Subscription{Filter: "b", QoS: 1})
		p.send(frame(0xb0, byte(u.MessageID>>8), byte(u.MessageID)))
		p.asksFor("b")
		p.givesBack("c")
		p.quiet()
		c.allActive(1)
	})
}

func TestAnUnsubscribeThatMakesTheBrokerHangUpIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: append(manyFilters(100), Subscription{Filter: "stays", QoS: 1})}, b.use)
		p := b.greet(false, 1)
		c.allActive(101)
		c.set(Subscription{Filter: "stays", QoS: 1})
		const bad = "site/50/lamp/+/set"
		given := map[string]bool{}
		for connects := 0; len(given) < 99; connects++ {
			if connects > 10 {
				t.Fatalf("10 connects, and %d given back", len(given))
			}
			for open := true; open && len(given) < 99; {
				switch m := p.next().(type) {
				case *packets.SubscribePacket:
					p.send(suback(m.MessageID, m.Qoss...))
				case *packets.UnsubscribePacket:
					if open = !slices.Contains(m.Topics, bad); open {
						for _, filter := range m.Topics {
							given[filter] = true
						}
						p.send(frame(0xb0, byte(m.MessageID>>8), byte(m.MessageID)))
					}
				}
			}
			if len(given) < 99 {
				_ = p.Close()
				p = b.accept()
				p.connack(true)
			}
		}
		p.quiet()
		if !strings.Contains(c.log.String(), `when asked to end the subscription to filter \"`+bad) {
			t.Errorf("not named in the log:\n%s", c.log)
		}
	})
}

// An answer that fits nothing must not be taken for that to a SUBSCRIBE.
func TestAnUnsubackThatAnswersNothingIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "a", QoS: 1}}}, b.use)
		p := b.greet(false, 0)
		s := expect[*packets.SubscribePacket](p)
		p.send(frame(0xb0, byte(s.MessageID>>8), byte(s.MessageID)), frame(0xb0, 0x12, 0x34))
		synctest.Wait()
		p.send(suback(s.MessageID, 1))
		c.allActive(1)
	})
}

// No change of one in 100,000 costs a walk over all for each of them.
func TestAHundredThousandSubscriptionsCanBeChanged(t *testing.T) {
	const n = 100_000
	b := newBroker(t)
	subs := manyFilters(n)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs})
	p := b.greet(false, 0)
	serve := func(subscribes, unsubscribes int) {
		t.Helper()
		for subscribes > 0 || unsubscribes > 0 {
			switch m := p.next().(type) {
			case *packets.SubscribePacket:
				subscribes -= len(m.Topics)
				p.send(suback(m.MessageID, m.Qoss...))
			case *packets.UnsubscribePacket:
				unsubscribes -= len(m.Topics)
				p.send(frame(0xb0, byte(m.MessageID>>8), byte(m.MessageID)))
			}
		}
	}
	serve(n, 0)
	begin := time.Now()
	for i := range 3 {
		subs = slices.Clone(subs)
		subs[i*1000].Filter = fmt.Sprint("new/", i)
		c.set(subs...)
		serve(1, 1)
	}
	for i := range subs {
		subs[i].Filter += "/new"
	}
	c.set(subs...)
	serve(n, n)
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %v", d)
	}
	c.until("all active", func() bool { return c.State().Active == n })
}

// Changes from many goroutines end with the last one in force at the broker.
func TestManyChangesAtOnceEndAsTheLastOneSaid(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(50)})
	var mu sync.Mutex
	has := map[string]bool{}
	p := b.greet(false, 0)
	go func() {
		for m := range p.in {
			mu.Lock()
			switch m := m.(type) {
			case *packets.SubscribePacket:
				for _, filter := range m.Topics {
					has[filter] = true
				}
				p.send(suback(m.MessageID, m.Qoss...))
			case *packets.UnsubscribePacket:
				for _, filter := range m.Topics {
					delete(has, filter)
				}
				p.send(frame(0xb0, byte(m.MessageID>>8), byte(m.MessageID)))
			}
			mu.Unlock()
		}
	}()
	var changers sync.WaitGroup
	for i := range 4 {
		changers.Go(func() {
			for j := range 200 {
				c.set(manyFilters(1 + (17*i+31*j)%100)...)
			}
		})
	}
	changers.Wait()
	c.set(manyFilters(20)...)
	c.until("as the last one said", func() bool {
		mu.Lock()
		defer mu.Unlock()
		subs := c.subscriptions()
		return len(subs) == 20 && len(has) == 20 && !slices.ContainsFunc(subs, func(s SubscriptionState) bool { return !s.Active || !has[s.Filter] })
	})
}

// Who asks often must not pay for each subscription, and see a change at once.
func TestAskingForTheStateAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		subs := append(manyFilters(1000), Subscription{Filter: "low", QoS: 2}, Subscription{Filter: "bad", QoS: 1})
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
		p := b.accept()
		p.connack(false)
		count := func(active, unanswered int, troubled ...string) {
			t.Helper()
			synctest.Wait()
			s := c.State()
			var filters []string
			for _, sub := range s.Troubled {
				filters = append(filters, sub.Filter)
			}
			if s.Active != active || s.Unanswered != unanswered || !slices.Equal(filters, troubled) {
				t.Errorf("%d active, %d unanswered, %v in trouble; want %d, %d, %v", s.Active, s.Unanswered, filters, active, unanswered, troubled)
			}
			if n := testing.AllocsPerRun(10, func() { c.State() }); n > 0 {
				t.Errorf("%v allocations", n)
			}
		}
		count(0, 1002)
		for range 3 {
			p.codes(func(filter string, qos byte) byte {
				switch filter {
				case "low":
					return 1
				case "bad":
					return subackFailure
				}
				return qos
			})
		}
		count(1001, 0, "low", "bad")
		c.set(append(subs[:1001:1001], Subscription{Filter: "new", QoS: 0})...)
		s := c.State()
		if s.Unanswered != 1 {
			t.Errorf("just changed, and %d unanswered", s.Unanswered)
		}
		p.asksFor("new")
		count(1002, 0, "low")
		p.givesBack("bad")
		_ = p.Close()
		count(0, 1002) // low is no longer granted, and was not refused
	})
}

// What an earlier process had subscribed to and nobody wants any more is unsubscribed where the broker remembers
// the session, after what is wanted was asked for. It stays wanted, or comes to be, where it is.
func TestWhatAFormerProcessHadIsUnsubscribed(t *testing.T) {
	former := []string{"casa/+/lamp", "kept", "later", "not/#/valid"}
	for name, tt := range map[string]struct {
		clean, present bool
		gone           []string
	}{
		"the broker remembers": {present: true, gone: []string{"casa/+/lamp", "later"}},
		"it does not":          {},
		"it is not to":         {clean: true, present: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, Clean: tt.clean, Subscriptions: []Subscription{{Filter: "casa/3/lamp", QoS: 1}, {Filter: "kept", QoS: 1}}, Former: former}, b.use)
				p := b.accept()
				p.connack(tt.present)
				p.asksFor("casa/3/lamp", "kept")
				if tt.gone != nil {
					p.givesBack(tt.gone...)
				}
				p.quiet()
				c.allActive(2)
				c.set(Subscription{Filter: "casa/3/lamp", QoS: 1}, Subscription{Filter: "kept", QoS: 1}, Subscription{Filter: "later", QoS: 1})
				p.asksFor("later")
				p.quiet()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Former: []string{"later"}}, b.use)
		c.set(Subscription{Filter: "later", QoS: 1}) // before it was connected
		p := b.accept()
		p.connack(true)
		p.asksFor("later")
		p.quiet()
	})
}
