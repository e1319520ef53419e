package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// codes answers a SUBSCRIBE with the return code of each of its filters.
func (p *peer) codes(code func(filter string, qos byte) byte) []string {
	p.t.Helper()
	s := expect[*packets.SubscribePacket](p)
	var codes []byte
	for i, filter := range s.Topics {
		codes = append(codes, code(filter, s.Qoss[i]))
	}
	p.send(suback(s.MessageID, codes...))
	slices.Sort(s.Topics)
	return s.Topics
}

func TestEveryConnectSubscribesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		subs := []Subscription{{Filter: "a/+", QoS: 0}, {Filter: "b/#", QoS: 1}, {Filter: "c", QoS: 2}}
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
		for i, present := range []bool{false, true, false} {
			p := b.accept()
			p.connack(present)
			got := map[string]byte{}
			s := p.suback()
			for i, filter := range s.Topics {
				got[filter] = s.Qoss[i]
			}
			if diff := cmp.Diff(map[string]byte{"a/+": 0, "b/#": 1, "c": 2}, got); diff != "" {
				t.Error(diff)
			}
			synctest.Wait()
			c.allActive(len(subs))
			want := State{Connected: true, Broker: b.url(), Protocol: "3.1.1", SessionPresent: present, Connects: i + 1, Losses: i, Active: len(subs)}
			if i > 0 {
				want.LastLoss = errBrokerClosed.Error()
			}
			state := c.State()
			state.Since = time.Time{}
			if diff := cmp.Diff(want, state); diff != "" {
				t.Error(diff)
			}
			_ = p.Close()
			synctest.Wait()
			if state := c.State(); state.Connected || state.Active > 0 || state.Unanswered != len(subs) {
				t.Errorf("connection lost, state %+v", state)
			}
		}
	})
}

func TestMessagesBeforeTheSubackAreHandedOn(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "t", QoS: 1}}})
	p := b.greet(true, 0)
	s := expect[*packets.SubscribePacket](p)
	p.send(publish(qos1, "t", 1, "early"))
	p.puback(1)
	p.send(suback(s.MessageID, 1))
	c.messages(1)
	c.reached("active", func(s State) bool { return s.Active == 1 })
}

func TestARefusedFilterIsSaidOnceAndAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "bad/1", QoS: 1}, {Filter: "good", QoS: 1}, {Filter: "low", QoS: 2}}}, b.use)
		refuse := func(filter string, qos byte) byte {
			switch {
			case strings.HasPrefix(filter, "bad"):
				return subackFailure
			case filter == "low":
				return 1
			}
			return qos
		}
		p := b.greet(false, 0)
		p.codes(refuse)
		synctest.Wait()
		want := []SubscriptionState{
			{Subscription: Subscription{Filter: "bad/1", QoS: 1}, Err: refusedText},
			{Subscription: Subscription{Filter: "good", QoS: 1}, Active: true, Granted: 1},
			{Subscription: Subscription{Filter: "low", QoS: 2}, Active: true, Granted: 1, Err: "granted with QoS 1, asked for 2"},
		}
		if diff := cmp.Diff(want, c.subscriptions()); diff != "" {
			t.Error(diff)
		}
		for _, pause := range []time.Duration{3, 6, 12, 24, 48, 96, 192, 384, 600, 600} { // only the refused one is asked for
			time.Sleep(pause*time.Second - time.Second)
			if p.expectPings(); len(p.in) > 0 {
				t.Errorf("asked again too early: %v", p.next())
			}
			time.Sleep(time.Second)
			if diff := cmp.Diff([]string{"bad/1"}, p.codes(refuse)); diff != "" {
				t.Error(diff)
			}
		}
		for _, text := range []string{"filters=bad/1", "filters=low"} {
			if n := strings.Count(c.log.String(), text); n != 1 {
				t.Errorf("%q logged %d times:\n%s", text, n, c.log)
			}
		}
		time.Sleep(maxRetryRefused)
		p.codes(func(_ string, qos byte) byte { return qos })
		synctest.Wait()
		if sub := c.subscriptions()[0]; !sub.Active || sub.Err != "" {
			t.Errorf("granted at last, but %+v", sub)
		}
		time.Sleep(maxRetryRefused)
		if p.expectPings(); len(p.in) > 0 {
			t.Errorf("nothing is left to ask for: %v", p.next())
		}
	})
}

func TestALogOfThousandRefusalsStaysReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(1000)}, b.use)
		p := b.greet(false, 0)
		for range 3 { // 500, 500, and one of them alone
			p.codes(func(string, byte) byte { return subackFailure })
		}
		synctest.Wait()
		const line = `count=1000 granted=0 filters="site/0/lamp/+/set, site/1/lamp/+/set, `
		if log := c.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, line) || !strings.Contains(log, "and 990 more") {
			t.Error(log)
		}
		time.Sleep(retryRefused)
		for range 3 {
			p.codes(func(string, byte) byte { return subackFailure })
		}
		if n := strings.Count(c.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d lines", n)
		}
	})
}

func TestASubscribeWithoutAnswerIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "t", QoS: 0}}}, b.use)
		p := b.greet(false, 0)
		expect[*packets.SubscribePacket](p)
		time.Sleep(subackTimeout + retryUnanswered + time.Second)
		p.suback()
		c.reached("active", func(s State) bool { return s.Active == 1 })
		if !strings.Contains(c.log.String(), "no answer to SUBSCRIBE") {
			t.Error("nothing in the log")
		}
	})
}

func manyFilters(n int) (subs []Subscription) {
	for i := range n {
		subs = append(subs, Subscription{Filter: fmt.Sprintf("site/%d/lamp/+/set", i), QoS: 1})
	}
	return subs
}

func TestTenThousandFiltersAreAskedForInChunks(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(10_000)})
	p := b.greet(false, 0)
	asked := map[string]bool{}
	for len(asked) < 10_000 {
		s := p.suback()
		size := 0
		for _, filter := range s.Topics {
			if asked[filter] {
				t.Errorf("%s asked for twice", filter)
			}
			asked[filter] = true
			size += 2 + len(filter) + 1
		}
		if len(s.Topics) > maxChunk || size > maxChunkBytes {
			t.Errorf("%d filters, %d bytes in a SUBSCRIBE", len(s.Topics), size)
		}
	}
	c.reached("all active", func(s State) bool { return s.Active == 10_000 })
}

func TestLongFiltersMakeSmallerChunks(t *testing.T) {
	b := newBroker(t)
	long := strings.Repeat("x", maxChunkBytes/4)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{
		{Filter: long + "1"}, {Filter: long + "2"}, {Filter: long + "3"}, {Filter: long + "4"}, {Filter: strings.Repeat("y", 65535)}, {Filter: "z"}}})
	p := b.greet(false, 0)
	for _, want := range []int{3, 1, 1, 1} {
		if got := len(p.suback().Topics); got != want {
			t.Errorf("%d filters, want %d", got, want)
		}
	}
	c.reached("all active", func(s State) bool { return s.Active == 6 })
}

// Some brokers close the connection instead of refusing a filter.
func TestAFilterThatMakesTheBrokerHangUpIsFoundAndLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimited(t, newPipeBroker(t))
		subs := manyFilters(600)
		subs[300].Filter = "not/allowed"
		b.bad = func(filter string) bool { return filter == "not/allowed" }
		go b.serve()
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
		time.Sleep(time.Minute)
		synctest.Wait()
		// 500 filters, then 62, 7, 1, once more to be sure, and without it.
		state := c.State()
		if state.Connects > 6 {
			t.Errorf("%d connects until all others were subscribed", state.Connects)
		}
		if bad := c.subscriptions()[300]; bad.Active || !strings.Contains(bad.Err, "closes the connection") {
			t.Errorf("state %+v", bad)
		}
		if !state.Connected || state.Active != 599 || state.Unanswered != 0 || len(state.Troubled) != 1 {
			t.Errorf("the others are not subscribed: %+v", state)
		}
		if !strings.Contains(c.log.String(), `when asked for filter \"not/allowed\"`) {
			t.Errorf("not named in the log:\n%s", c.log)
		}
		time.Sleep(23 * time.Hour)
		if n := c.State().Connects - state.Connects; n > 23+5 {
			t.Errorf("asked for again %d times in a day", n)
		}
		b.change(func() { b.bad = nil })
		time.Sleep(maxProbe + retryRefused)
		if n := c.State().Active; n != 600 {
			t.Errorf("allowed now, and %d active", n)
		}
	})
}

// A filter that is allowed now is asked for again within seconds where that costs nothing,
// because the broker refuses it or grants none at all. Where it would end a connection that
// others are granted on, it is seldom.
func TestWhatIsAllowedNowIsAskedForAsSoonAsThatCostsLittle(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refuses bool
		wanted  int // and one of them is bad
		within  time.Duration
	}{
		{"it refused one of three", true, 3, 5 * time.Second},
		{"it closed the connection over the only one", false, 1, 5 * time.Second},
		{"it closed the connection over one of three", false, 3, firstProbe + time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				b.refuses = tt.refuses
				b.bad = func(filter string) bool { return filter == "site/0/lamp/+/set" }
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(tt.wanted)}, b.use)
				c.reached("the others are active, and one in trouble", func(s State) bool {
					return s.Active == tt.wanted-1 && len(s.Troubled) == 1 && s.Connected
				})
				begin := time.Now()
				if tt.within > firstProbe {
					synctest.Wait()
					b.since()
					time.Sleep(firstProbe / 2)
					synctest.Wait()
					if n, _ := b.since(); n > 0 || c.State().Active != tt.wanted-1 {
						t.Errorf("%d connects, %d active: it is asked for too soon", n, c.State().Active)
					}
				}
				b.change(func() { b.bad = nil })
				c.reached("all active", func(s State) bool { return s.Active == tt.wanted })
				if d := time.Since(begin); d > tt.within {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}
