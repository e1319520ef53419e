package session

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A limited broker keeps one session and has limits. What exceeds them it answers by
// closing the connection, or with 0x80 where so much is said.
type limited struct {
	*broker
	refuses  bool // 0x80 instead of closing
	together bool // and that for all filters of the packet
	silent   bool // no answer instead of closing

	slow time.Duration // to answer a SUBSCRIBE

	mu        sync.Mutex
	most      int               // subscriptions of the session; 0: any number
	perPacket int               // filters in a SUBSCRIBE or UNSUBSCRIBE; 0: any number
	bad       func(string) bool // filters that it does not take; nil: none
	has       map[string]bool   // the session
	connects  int
	sizes     []int // of the SUBSCRIBEs
	peer      *peer
}

func newLimited(t *testing.T, b *broker) *limited {
	return &limited{broker: b, has: make(map[string]bool)}
}

// serve answers until the test ends.
func (b *limited) serve() {
	ctx := b.t.Context()
	for {
		select {
		case conn := <-b.conns:
			p := &peer{t: b.t, Conn: conn, in: make(chan packets.ControlPacket)}
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

func (b *limited) obey(p *peer) {
	b.mu.Lock()
	b.connects++
	b.peer = p
	b.mu.Unlock()
	for cp := range p.in {
		if _, ok := cp.(*packets.SubscribePacket); ok {
			time.Sleep(b.slow)
		}
		b.mu.Lock()
		answer := b.answer(cp)
		b.mu.Unlock()
		if answer == nil {
			return
		}
		if len(answer) > 0 {
			_, _ = p.Write(answer)
		}
	}
}

// answer is what to say to a packet; nil: nothing, and the end.
func (b *limited) answer(cp packets.ControlPacket) []byte {
	switch m := cp.(type) {
	case *packets.ConnectPacket:
		present := len(b.has) > 0 && !m.CleanSession
		if !present {
			clear(b.has)
		}
		return connack(present, 0)
	case *packets.SubscribePacket:
		b.sizes = append(b.sizes, len(m.Topics))
		codes := slices.Clone(m.Qoss)
		for i, filter := range m.Topics {
			full := b.most > 0 && !b.has[filter] && len(b.has) >= b.most
			if full || b.bad != nil && b.bad(filter) || b.perPacket > 0 && i >= b.perPacket {
				switch {
				case b.silent:
					return []byte{}
				case !b.refuses:
					return nil
				case b.together:
					return suback(m.MessageID, bytes.Repeat([]byte{subackFailure}, len(codes))...)
				}
				codes[i] = subackFailure
				continue
			}
			b.has[filter] = true
		}
		return suback(m.MessageID, codes...)
	case *packets.UnsubscribePacket:
		if b.perPacket > 0 && len(m.Topics) > b.perPacket {
			return nil
		}
		for _, filter := range m.Topics {
			delete(b.has, filter)
		}
		return frame(0xb0, byte(m.MessageID>>8), byte(m.MessageID))
	case *packets.PublishPacket:
		if m.Qos == 1 {
			return frame(0x40, byte(m.MessageID>>8), byte(m.MessageID))
		}
	}
	return []byte{}
}

// change changes what the broker takes.
func (b *limited) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// since forgets what was counted, and says what it was.
func (b *limited) since() (connects int, sizes []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	connects, sizes = b.connects, b.sizes
	b.connects, b.sizes = 0, nil
	return connects, sizes
}

// cut ends the connection.
func (b *limited) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peer != nil {
		_ = b.peer.Close()
	}
}

// filters are those of the session, sorted.
func (b *limited) filters() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.has))
}

// A broker that takes eight filters in a packet: one bad filter among many does not
// make the packets grow into that limit again.
func TestTheLimitOfFiltersInAPacketIsRemembered(t *testing.T) {
	for _, bad := range []int{-1, 0, 300, 599} {
		t.Run(fmt.Sprint("bad ", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				subs := manyFilters(600)
				want := 600
				if bad >= 0 {
					subs[bad].Filter = "not/allowed"
					b.bad, want = func(filter string) bool { return filter == "not/allowed" }, 599
				}
				b.perPacket = 8
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
				time.Sleep(firstProbe*(1+probeGrowth) + 2*stableLife) // two probes; the next is nine minutes after them
				synctest.Wait()
				if n := c.State().Active; n != want {
					t.Fatalf("%d active: %s", n, c.log)
				}
				// 500, 62, 7; where one is bad 1, and once more to be sure; and where it was
				// in all of these, one that has grown too large; and the two probes.
				n, sizes := b.since()
				if over := slices.DeleteFunc(sizes, func(n int) bool { return n <= 8 }); n > 12 || len(over) > 3 {
					t.Errorf("%d connects, SUBSCRIBEs of %d", n, over)
				}
				b.cut()
				time.Sleep(2 * stableLife)
				synctest.Wait()
				if n, sizes = b.since(); n != 1 || slices.Max(sizes) > 8 || c.State().Active != want {
					t.Errorf("%d connects, SUBSCRIBEs of %d, %d active", n, sizes, c.State().Active)
				}
				c.set(subs[1:2]...)
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				if got := b.filters(); len(got) != 1 {
					t.Errorf("%d are left: %v", len(got), got)
				}
				if n, _ := b.since(); n > 0 {
					t.Errorf("%d connects more to give back:\n%s", n, c.log)
				}
			})
		})
	}
}

// Each broker has its own limits.
func TestTheLimitsOfOneBrokerAreNotThoseOfAnother(t *testing.T) {
	a := subscriber{options: new(Options)}
	a.limitsOf("mqtt://a").shrink(strings.Split("abcdefghijklmnop", ""), false)
	if n := a.limitsOf("mqtt://a").maxFilters; n != 2 {
		t.Errorf("a takes %d", n)
	}
	if n := a.limitsOf("mqtt://b").maxFilters; n != maxChunk {
		t.Errorf("b takes %d", n)
	}
}

// A broker that refuses what exceeds its limit of subscriptions with 0x80: one line of
// the log, what can be had is had, and what can be had later too.
func TestALimitOfSubscriptionsThatIsAnsweredIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimited(t, newPipeBroker(t))
		b.most, b.refuses = 63, true
		go b.serve()
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(200)}, b.use)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if s := c.State(); s.Connects != 1 || s.Active != 63 || s.Unanswered != 0 || len(s.Troubled) != 137 {
			t.Errorf("%d connects, %d active, %d unanswered, %d in trouble", s.Connects, s.Active, s.Unanswered, len(s.Troubled))
		}
		if log := c.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "count=137 granted=63 filters=") {
			t.Error(log)
		}
		if _, sizes := b.since(); len(sizes) > 2*(9+24*6) { // two a round: all, and one of them alone
			t.Errorf("%d SUBSCRIBEs in a day", len(sizes))
		}
		b.change(func() { b.most = 100 })
		time.Sleep(maxRetryRefused)
		synctest.Wait()
		if n := c.State().Active; n != 100 {
			t.Errorf("raised to 100, but %d active", n)
		}
	})
}

// A broker that refuses filters with 0x80 because they are too many in one SUBSCRIBE,
// those that are too many or all of them, gets fewer.
func TestFiltersRefusedForTheirNumberInAPacketAreAskedForAgain(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all ", all), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				b.perPacket, b.refuses, b.together = 8, true, all
				b.bad = func(filter string) bool { return filter == "site/300/lamp/+/set" }
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(600)}, b.use)
				time.Sleep(time.Second)
				synctest.Wait()
				if s := c.State(); s.Connects != 1 || s.Active != 599 || len(s.Troubled) != 1 {
					t.Errorf("%d connects, %d active, %d in trouble", s.Connects, s.Active, len(s.Troubled))
				}
				if log := c.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "count=1 ") {
					t.Error(log)
				}
			})
		})
	}
}

// A broker that gives no answer to a filter, or to too many of them, is asked for the
// others.
func TestFiltersWithoutAnAnswerDoNotKeepTheOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimited(t, newPipeBroker(t))
		b.perPacket, b.silent = 8, true
		b.bad = func(filter string) bool { return filter == "site/3/lamp/+/set" }
		go b.serve()
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(30)}, b.use)
		time.Sleep(10 * (subackTimeout + retryUnanswered))
		synctest.Wait()
		if s := c.State(); s.Connects != 1 || s.Active != 29 || len(s.Troubled) != 1 {
			t.Errorf("%d connects, %d active, in trouble %v", s.Connects, s.Active, s.Troubled)
		}
	})
}

// What the configuration says of a broker is kept from the start: no connection is lost over it, and no more
// is ever asked for.
func TestLimitsThatAreToldAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var subs []Subscription
		for i := range 30 {
			subs = append(subs, Subscription{Filter: fmt.Sprint("f/", i), QoS: 1})
		}
		b := newLimited(t, newPipeBroker(t))
		b.most, b.perPacket = 20, 8
		go b.serve()
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs, MaxSubs: 20, MaxFilters: 8}, b.use)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		s := c.State()
		if s.Active != 20 || s.Connects != 1 || len(s.Troubled) != 10 || s.Troubled[0].Err != "no subscription: broker.max_subscriptions is 20" || s.Troubled[0].Filter != "f/20" {
			t.Errorf("%d granted on %d connections, %d not: %+v", s.Active, s.Connects, len(s.Troubled), s.Troubled[:min(1, len(s.Troubled))])
		}
		if s.Limits.Subscriptions != 20 || s.Limits.Filters != 8 {
			t.Errorf("limits %+v", s.Limits)
		}
		c.set(subs[10:30]...) // as many: what is gone makes room first
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := c.State(); s.Active != 20 || s.Connects != 1 || len(s.Troubled) != 0 {
			t.Errorf("after a change %d granted on %d connections, %+v", s.Active, s.Connects, s.Troubled)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if most := slices.Max(b.sizes); most > 8 {
			t.Errorf("%d filters in a packet", most)
		}
	})
}
