package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// arrivals has a broker read what is published, and says when each came. Those of QoS 1 and 2 are acknowledged at once.
func arrivals(p *peer5, n int) (at []time.Time, payloads [3][]string) {
	for pubrels := n; len(at) < n || pubrels > 0; {
		switch cp := <-p.in5; m := cp.Content.(type) {
		case *packets.Publish:
			at = append(at, time.Now())
			payloads[m.QoS] = append(payloads[m.QoS], string(m.Payload))
			if m.QoS < 2 {
				pubrels--
			}
			if m.QoS > 0 {
				p.send(ack5(0x30+0x10*m.QoS, m.PacketID, 0))
			}
		case *packets.Pubrel:
			pubrels--
			p.send(ack5(0x70, m.PacketID, 0))
		}
	}
	return at, payloads
}

// numbers are the payloads 0 to n-1.
func numbers(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprint(i))
	}
	return texts
}

// Of each quality of service the messages leave in their order, at the rate, and none has to wait for
// all of another.
func TestMessagesLeaveAtMaxRate(t *testing.T) {
	for _, rate := range []int{1, 50, 100, 5000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start5(t, b, Options{MaxRate: rate, KeepAlive: 5 * time.Hour})
				p := b.greet5()
				c.reached("connected", connected)
				each := rate
				out := new(fate)
				for i := range each {
					for qos := range byte(3) {
						c.PublishBatch(batchOf(qos, out, fmt.Sprint(i)))
					}
				}
				synctest.Wait()
				if s := c.State(); s.PacedSince.IsZero() || s.Limits.MessageRate != rate {
					t.Errorf("something waits: %+v", s)
				}
				began := time.Now()
				at, payloads := arrivals(p, 3*each)
				if d := time.Since(began); d < 1900*time.Millisecond || d > 3*time.Second {
					t.Errorf("%d took %v", len(at), d)
				}
				if most := mostInASecond(at); most > rate+1+rate/100 {
					t.Errorf("%d in a second", most)
				}
				for qos, got := range payloads {
					if !slices.Equal(got, numbers(each)) {
						t.Errorf("QoS %d: %.100q", qos, got)
					}
				}
				time.Sleep(time.Second)
				if s := c.State(); out.n != 3*each || s.Outstanding != 0 || !s.PacedSince.IsZero() {
					t.Errorf("told of %d of %d, %+v", out.n, 3*each, s)
				}
			})
		})
	}
}

func mostInASecond(at []time.Time) (most int) {
	from := 0
	for i, t := range at {
		for t.Sub(at[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// Who has much of one quality of service delays the others by no more than their turn.
func TestThePaceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{MaxRate: 10})
		p := b.greet5()
		c.reached("connected", connected)
		for i := range 500 {
			c.PublishBatch(batchOf(byte(i%2), nil, "flood"))
		}
		time.Sleep(time.Second)
		c.PublishBatch(batchOf(2, nil, "urgent"))
		at, payloads := arrivals(p, 16)
		if len(payloads[2]) != 1 || len(payloads[0]) < 6 || len(payloads[1]) < 6 {
			t.Errorf("of 16 in %v: %q", at[15].Sub(at[0]), payloads)
		}
	})
}

// What is not a message waits for nothing: signs of life, subscriptions, acknowledgements.
func TestThePaceHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{MaxRate: 1, KeepAlive: 10 * time.Second, Status: &Status{Topic: "status"}})
		p := b.greet5()
		status := expect5[*packets.Publish](p)
		p.send(ack5(0x40, status.PacketID, 0))
		c.reached("connected", connected)
		c.PublishBatch(batchOf(0, nil, numbers(100)...))
		c.PublishBatch(batchOf(2, nil, numbers(100)...))
		kinds := map[byte]int{}
		began := time.Now()
		for time.Since(began) < 30*time.Second {
			c.set(Subscription{Filter: fmt.Sprint("f/", time.Since(began)), QoS: 1})
			p.send(publish5(qos1, "f", 7, nil, ""))
			synctest.Wait()
			for range len(p.in5) {
				cp := <-p.in5
				kinds[cp.Type]++
				switch m := cp.Content.(type) {
				case *packets.Publish:
					if m.QoS > 0 {
						p.send(ack5(0x50, m.PacketID, 0))
					}
				case *packets.Pubrel:
					p.send(ack5(0x70, m.PacketID, 0))
				case *packets.Subscribe:
					p.send(frame(0x90, byte(m.PacketID>>8), byte(m.PacketID), 0, 1))
				case *packets.Unsubscribe:
					p.send(frame(0xb0, byte(m.PacketID>>8), byte(m.PacketID), 0, 0))
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
		if kinds[packets.PUBLISH] < 28 || kinds[packets.PUBLISH] > 32 || kinds[packets.PUBACK] != 60 || kinds[packets.SUBSCRIBE] < 59 || kinds[packets.PINGREQ] > 6 || kinds[packets.PUBREL] < 14 {
			t.Errorf("in 30 s: %v", kinds)
		}
		if s := c.State(); !s.Connected || s.Connects != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What is written again on a new connection counts too, and no message is lost or comes out of turn.
func TestThePaceOverConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{MaxRate: 20})
		out := new(fate)
		c.PublishBatch(batchOf(1, out, numbers(100)...))
		p := b.greet5()
		for range 40 {
			expect5[*packets.Publish](p) // none is acknowledged
		}
		_ = p.Close()
		p = b.accept5()
		expect5[*packets.Connect](p)
		p.send(connack5(true, 0))
		began := time.Now()
		at, payloads := arrivals(p, 100)
		if !slices.Equal(payloads[1], numbers(100)) {
			t.Errorf("%q", payloads[1])
		}
		if most := mostInASecond(at); most > 21 || time.Since(began) < 4900*time.Millisecond {
			t.Errorf("%d in a second, all within %v", most, time.Since(began))
		}
		synctest.Wait()
		if out.n != 100 {
			t.Errorf("told of %d", out.n)
		}
	})
}

// A writer that was kept waiting does not catch up with more than a hundredth of a second.
func TestPaceHasNoBurst(t *testing.T) {
	now := time.Now()
	p := newPace(1000)
	p.spent(1, now)
	later := now.Add(time.Hour)
	if may := p.share([lanes]uint64{1000, 1000, 1000}, later); may[0]+may[1]+may[2] != 11 {
		t.Errorf("%v after an idle hour", may)
	}
	p.spent(11, later)
	if may := p.share([lanes]uint64{1000, 0, 0}, later); may != [lanes]uint64{} {
		t.Errorf("%v more at the same moment", may)
	}
	if may := p.share([lanes]uint64{0, 7, 0}, later.Add(5*time.Millisecond)); may != [lanes]uint64{0, 5, 0} {
		t.Errorf("%v after 5 ms", may)
	}
}

// A broker that finds us too fast says so: no message is to blame, and what to do is named.
func TestARateThatIsTooHighIsNoMessagesFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{GiveUpAfter: 1})
		out := new(fate)
		c.PublishBatch(batchOf(1, out, numbers(10)...))
		for range 12 {
			p := b.greet5()
			for range 10 {
				expect5[*packets.Publish](p) // never one alone
			}
			p.send(frame(0xe0, 0x96))
			p.ended()
		}
		synctest.Wait()
		if s := c.State(); out.lost > 0 || !strings.Contains(s.LastErr, "message rate too high (0x96): set broker.max_rate to fewer") {
			t.Errorf("%d lost, %+v", out.lost, s)
		}
	})
}

func TestMaxRateIsChecked(t *testing.T) {
	for _, rate := range []int{-1, maxRate + 1} {
		_, err := New(Options{URLs: []string{"mqtt://127.0.0.1"}, ClientID: "c", Handle: func([]Message) {}, MaxRate: rate})
		if err == nil || !strings.Contains(err.Error(), "max_rate") {
			t.Errorf("%d: %v", rate, err)
		}
	}
}
