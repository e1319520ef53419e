package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Brokers that take so many subscriptions from a client, and close the connection of one
// that asks for more.

// first are the first n of the filters, sorted.
func first(subs []Subscription, n int) (filters []string) {
	for _, sub := range subs[:n] {
		filters = append(filters, sub.Filter)
	}
	slices.Sort(filters)
	return filters
}

// warnings are the lines of the log that warn of something else than an end.
func (c *client) warnings() (lines []string) {
	for line := range strings.Lines(c.log.String()) {
		if strings.Contains(line, "level=WARN") && !strings.Contains(line, "connection lost") {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c *client) surplus() (n int) {
	for _, sub := range c.State().Troubled {
		if sub.Surplus {
			n++
		}
	}
	return n
}

// As AWS IoT is.
func TestALimitOfSubscriptionsIsFoundKeptAndNamed(t *testing.T) {
	for _, clean := range []bool{false, true} {
		for _, perPacket := range []int{8, 0} {
			t.Run(fmt.Sprintf("clean %v, %d in a packet", clean, perPacket), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newLimited(t, newPipeBroker(t))
					b.most, b.perPacket = 50, perPacket
					go b.serve()
					subs := manyFilters(100)
					c := start(t, Options{URLs: []string{b.url()}, Clean: clean, Status: &Status{"s"}, Subscriptions: subs}, b.use)
					time.Sleep(time.Minute)
					synctest.Wait()
					connects, _ := b.since()
					if s := c.State(); !s.Connected || s.Active != 50 || s.Unanswered != 0 || c.surplus() != 50 || connects > 10 {
						t.Errorf("after %d connects %d active, %d unanswered, %d surplus: %s", connects, s.Active, s.Unanswered, c.surplus(), c.log)
					}
					if got := b.filters(); !slices.Equal(got, first(subs, 50)) {
						t.Errorf("it has %v", got)
					}
					lines := c.warnings()
					if len(lines) != 1 || !strings.Contains(lines[0], "limit=50 wanted=100 left_out=") || !strings.Contains(lines[0], "client_id") {
						t.Error(lines)
					}
					if sub := c.subscriptions()[50]; sub.Err != "no subscription: the broker takes only 50 on a connection" {
						t.Errorf("%+v", sub)
					}
					time.Sleep(24 * time.Hour)
					synctest.Wait()
					// One an hour, and four before the pauses have grown to that.
					if n, _ := b.since(); n > 24+4 || c.State().Active != 50 || len(c.warnings()) != 1 {
						t.Errorf("%d connects in a day, %d active, warnings %q", n, c.State().Active, c.warnings())
					}
					b.cut()
					time.Sleep(stableLife)
					synctest.Wait()
					n, sizes := b.since()
					if n != 1 || c.State().Active != 50 || clean && perPacket == 0 && len(sizes) > 10 { // they are asked for together again
						t.Errorf("connection lost: %d connects, %d SUBSCRIBEs, %d active", n, len(sizes), c.State().Active)
					}
					b.change(func() { b.most = 70 }) // raised
					time.Sleep(maxProbe + 2*retryRefused)
					synctest.Wait()
					if got := b.filters(); c.State().Active != 70 || !slices.Equal(got, first(subs, 70)) {
						t.Errorf("raised to 70, %d active", c.State().Active)
					}
					b.change(func() { b.most = 30; clear(b.has) }) // lowered, and restarted
					b.cut()
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					if got := b.filters(); c.State().Active != 30 || !slices.Equal(got, first(subs, 30)) {
						t.Errorf("lowered to 30, %d active", c.State().Active)
					}
					b.change(func() { b.most = 0 })
					time.Sleep(maxProbe + 2*retryRefused)
					synctest.Wait()
					if c.State().Active != 100 || len(c.State().Troubled) > 0 {
						t.Errorf("no limit any more, %d active", c.State().Active)
					}
				})
			})
		}
	}
}

// A reload gives back before it asks, where the broker is full.
func TestAChangeAtTheLimitOfSubscriptionsEndsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimited(t, newPipeBroker(t))
		b.most, b.perPacket = 50, 8
		go b.serve()
		subs := manyFilters(100)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
		time.Sleep(time.Minute)
		change := func(edit func()) {
			t.Helper()
			synctest.Wait()
			b.since()
			edit()
			c.set(subs...)
			time.Sleep(time.Second)
			synctest.Wait()
			n := min(len(subs), 50)
			if connects, _ := b.since(); connects > 0 || c.State().Active != n || !slices.Equal(b.filters(), first(subs, n)) {
				t.Errorf("%d connects, %d active, it has %v", connects, c.State().Active, b.filters())
			}
		}
		change(func() { subs[10].Filter = "new" })
		change(func() { subs = slices.Insert(slices.Clone(subs), 0, Subscription{Filter: "first", QoS: 1}) })
		change(func() { subs = subs[20:] })
		change(func() { subs[49].QoS = 2 })
		change(func() { slices.Reverse(subs) })
		change(func() { subs = subs[:30] })
		change(func() { subs = append(subs, manyFilters(200)[100:120]...) })
		change(func() { subs = subs[:1] })
	})
}

// The first reload of one that has exactly as many as the broker takes.
func TestAChangeAtALimitThatIsNotKnownEndsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLimited(t, newPipeBroker(t))
		b.most = 50
		go b.serve()
		subs := manyFilters(50)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: subs}, b.use)
		for i, most := range []int{2, 0, 0} { // the first end of a connection that was long well says nothing
			time.Sleep(2 * stableLife)
			synctest.Wait()
			b.since()
			subs = slices.Clone(subs)
			subs[i].Filter = fmt.Sprint("new/", i)
			c.set(subs...)
			time.Sleep(2 * stableLife)
			synctest.Wait()
			if n, _ := b.since(); n > most || !slices.Equal(b.filters(), first(subs, 50)) {
				t.Errorf("change %d: %d connects, %d active, it has %v", i, n, c.State().Active, b.filters())
			}
		}
		if lines := c.warnings(); len(lines) > 0 {
			t.Error(lines)
		}
	})
}

// What can be had is had, whatever the limits are and whichever filters are bad, and
// connections do not end for it for long.
func TestWhatABrokerWithLimitsTakesIsHad(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 40 {
		most, perPacket, clean := []int{0, 1, 2, 7, 50, 99, 100}[r.IntN(7)], []int{0, 0, 1, 2, 8, 60}[r.IntN(6)], r.IntN(2) == 0
		bad := make(map[string]bool)
		subs := manyFilters(100)
		at := r.IntN(100)
		for range r.IntN(5) {
			bad[subs[at%100].Filter] = true
			if at++; r.IntN(3) == 0 {
				at = r.IntN(100)
			}
		}
		t.Run(fmt.Sprintf("%d: %d, %d in a packet, %d bad, clean %v", i, most, perPacket, len(bad), clean), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				b.most, b.perPacket, b.bad = most, perPacket, func(filter string) bool { return bad[filter] }
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Clean: clean, Subscriptions: subs}, b.use)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				connects, _ := b.since()
				good := slices.DeleteFunc(slices.Clone(subs), func(s Subscription) bool { return bad[s.Filter] })
				n := len(good)
				if most > 0 {
					n = min(n, most)
				}
				right := slices.Equal(b.filters(), first(good, n))
				if n == len(good)-1 {
					right = true // which one is left out may be another than the last
				}
				if s := c.State(); !s.Connected || s.Active != n || !right {
					t.Errorf("%d active, want %d: %s", s.Active, n, c.log)
				}
				if connects > 10+4*len(bad)+5 {
					t.Errorf("%d connects: %s", connects, c.log)
				}
				time.Sleep(6 * time.Hour)
				synctest.Wait()
				if n, _ := b.since(); n > 6+5 {
					t.Errorf("%d connects in six hours: %s", n, c.log)
				}
			})
		})
	}
}

// Bad filters at the head of the table do not hide the good ones.
func TestBadFiltersThatComeFirstDoNotHideTheOthers(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				subs := manyFilters(100)
				bad := first(subs, 6)
				b.bad = func(filter string) bool { return slices.Contains(bad, filter) }
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Clean: clean, Subscriptions: subs}, b.use)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if s := c.State(); s.Active != 94 || s.Unanswered != 0 {
					t.Errorf("%d active: %s", s.Active, c.log)
				}
			})
		})
	}
}

// A broker that closes at every subscription still gets what is published.
func TestABrokerThatTakesNoSubscriptionGetsPublications(t *testing.T) {
	for _, tt := range []struct {
		full bool
		busy bool // there is always something to publish
		most int  // connects in three minutes
	}{{false, false, 65}, {false, true, 18}, {true, false, 65}, {true, true, 18}} {
		full := tt.full
		t.Run(fmt.Sprintf("full of others %v, busy %v", full, tt.busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				b.bad = func(string) bool { return !full }
				if full { // of an earlier configuration
					b.most = 50
					for _, sub := range manyFilters(150)[100:] {
						b.has[sub.Filter] = true
					}
				}
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(100)}, b.use)
				if tt.busy {
					c.publishing(t, 1, time.Second)
				}
				time.Sleep(2 * time.Minute)
				o := &teller{}
				c.PublishBatch(batchOf(1, o, "x"))
				time.Sleep(time.Minute)
				synctest.Wait()
				if n, _ := b.since(); n > tt.most || o.n != 1 {
					t.Errorf("%d connects, told of %d: %s", n, o.n, c.log)
				}
				lines := c.warnings()
				if len(lines) != 1 || !strings.Contains(lines[0], "at every subscription") || !strings.Contains(lines[0], "session: clean") {
					t.Error(lines)
				}
				b.change(func() { b.bad = nil; clear(b.has) })
				if tt.busy {
					time.Sleep(maxProbeNone)
				}
				if full {
					time.Sleep(30 * time.Second) // it has its limit still, which is to be found
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				want := 100
				if full {
					want = 50
				}
				if n := c.State().Active; n != want {
					t.Errorf("%d active: %s", n, c.log)
				}
			})
		})
	}
}

// Connections that end for other reasons do not make a limit, nor a bad filter, for long.
func TestEndsForOtherReasonsAreNoLimit(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 20 {
		most := []int{0, 0, 50}[r.IntN(3)]
		t.Run(fmt.Sprintf("%d: %d", i, most), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLimited(t, newPipeBroker(t))
				b.most, b.slow = most, 20*time.Millisecond
				go b.serve()
				c := start(t, Options{URLs: []string{b.url()}, Clean: r.IntN(2) == 0, Subscriptions: manyFilters(100)}, b.use)
				for range 40 {
					time.Sleep(time.Duration(r.IntN(6000)) * time.Millisecond)
					b.cut()
				}
				time.Sleep(2*maxProbe + 10*time.Minute)
				synctest.Wait()
				want := 100
				if most > 0 {
					want = most
				}
				if n := c.State().Active; n != want {
					t.Errorf("%d active: %s", n, c.log)
				}
			})
		})
	}
}
