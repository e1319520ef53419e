package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// metered is a broker of MQTT 5 that refuses a message, or not, as takes says, with 0x97.
type metered struct {
	mu    sync.Mutex // guards the rest while it serves
	takes func(m *packets.Publish) bool
	taken []string        // payloads, in the order in which they were taken
	seen  int             // messages that came
	dups  int             // of these, repetitions
	last  map[string]byte // code that a message got last, by quality of service and payload
	again map[string]bool // those that came as repetitions
}

// counts are seen and dups.
func (b *metered) counts() (seen, dups int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen, b.dups
}

func (b *metered) serve(p *peer5) {
	b.mu.Lock()
	b.last, b.again = map[string]byte{}, map[string]bool{}
	b.mu.Unlock()
	for cp := range p.in5 {
		switch m := cp.Content.(type) {
		case *packets.Publish:
			key := fmt.Sprint(m.QoS, " ", string(m.Payload))
			b.mu.Lock()
			b.seen++
			if m.Duplicate {
				b.dups++
				b.again[key] = true
			}
			code := byte(0x97)
			if b.takes(m) {
				code = 0
				b.taken = append(b.taken, string(m.Payload))
			}
			b.last[key] = code
			b.mu.Unlock()
			if m.QoS > 0 {
				_, _ = p.Write(ack5(0x30+0x10*m.QoS, m.PacketID, code))
			}
		case *packets.Pubrel:
			_, _ = p.Write(ack5(0x70, m.PacketID, 0))
		}
	}
}

// A broker whose quota is exceeded for a while gets all messages in the end, of each quality of service in
// their order, and is not asked without end meanwhile.
func TestWhatAQuotaRefusesIsPublishedLater(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start5(t, b, Options{GiveUpAfter: 3})
				began := time.Now()
				is := &metered{takes: func(*packets.Publish) bool { return time.Since(began) > 4*time.Minute }}
				p := b.greet5(0x21, 0, 100)
				go is.serve(p)
				c.reached("connected", connected)
				out := new(fate)
				c.PublishBatch(batchOf(qos, out, numbers(3000)...))
				time.Sleep(time.Minute)
				seen, _ := is.counts()
				if s := c.State(); seen > 100+7*quotaWindow || s.QuotaSince.IsZero() || s.Outstanding != 3000 {
					t.Errorf("%d came in a minute, %+v", seen, s)
				}
				time.Sleep(7 * time.Minute)
				synctest.Wait()
				if !slices.Equal(is.taken, numbers(3000)) || out.n != 3000 || out.lost > 0 || is.dups > 0 {
					t.Errorf("%d taken, %d told, %d lost, %d marked as repetitions", len(is.taken), out.n, out.lost, is.dups)
				}
				if s := c.State(); !s.QuotaSince.IsZero() || s.Connects != 1 || s.Outstanding != 0 {
					t.Errorf("%+v", s)
				}
				if log := c.log.String(); strings.Count(log, "for now") < 1 || strings.Count(log, "for now") > 6 || !strings.Contains(log, "broker.max_rate") || !strings.Contains(log, "quota exceeded (0x97)") {
					t.Errorf("log: %s", log)
				}
			})
		})
	}
}

// One message that the quota never has room for is given up, so that the others are not held up by it.
func TestOneMessageThatAQuotaAlwaysRefusesIsGivenUp(t *testing.T) {
	for _, giveUpAfter := range []int{3, 0} {
		t.Run(fmt.Sprint(giveUpAfter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start5(t, b, Options{GiveUpAfter: giveUpAfter})
				is := &metered{takes: func(m *packets.Publish) bool { return string(m.Payload) != "large" }}
				p := b.greet5()
				go is.serve(p)
				c.reached("connected", connected)
				out, bad := new(fate), new(fate)
				c.PublishBatch(slices.Concat(batchOf(1, bad, "large"), batchOf(1, out, numbers(100)...)))
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				e, _ := errors.AsType[*NotAcceptedError](bad.err)
				gone := e != nil && e.Code == reasonQuota && bad.lost == 1
				if gone != (giveUpAfter > 0) || len(is.taken) != 100 || gone && out.n != 100 {
					t.Errorf("%d taken, %d told; given up: %v, %v", len(is.taken), out.n, gone, bad.err)
				}
				if s := c.State(); s.Connects != 1 || s.QuotaSince.IsZero() != gone {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// Over a connection that ends meanwhile nothing is lost, and what was deferred is no repetition.
func TestWhatIsDeferredOutlivesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{GiveUpAfter: 3})
		out := new(fate)
		c.PublishBatch(append(batchOf(1, out, numbers(50)...), batchOf(2, out, numbers(50)...)...))
		p := b.greet5()
		c.reached("connected", connected)
		synctest.Wait()
		_ = p.Close() // on the next connection what was written is a repetition
		none := &metered{takes: func(*packets.Publish) bool { return false }}
		p = b.accept5()
		expect5[*packets.Connect](p)
		p.send(connack5(true, 0))
		go none.serve(p)
		time.Sleep(5 * time.Second)
		if _, dups := none.counts(); dups == 0 {
			t.Error("no repetitions")
		}
		_ = p.Close()
		all := &metered{takes: func(*packets.Publish) bool { return true }}
		p = b.accept5()
		expect5[*packets.Connect](p)
		p.send(connack5(true, 0))
		go all.serve(p)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(all.taken) != 100 || all.seen != 100 || out.n != 100 || out.lost > 0 {
			t.Errorf("%d came, %d of them repetitions; told of %d, %d lost", all.seen, all.dups, out.n, out.lost)
		}
		for key := range none.last {
			if all.again[key] {
				t.Errorf("QoS and payload %s: refused, and then marked as a repetition", key)
			}
		}
	})
}

// A retained message that was refused does not come after a newer one of its topic, which it would replace.
func TestADeferredMessageReplacesNoNewerOne(t *testing.T) {
	for _, retain := range []bool{false, true} {
		t.Run(fmt.Sprint("retain ", retain), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start5(t, b, Options{GiveUpAfter: 3})
				seen := 0
				is := &metered{takes: func(*packets.Publish) bool { seen++; return seen > 2 }}
				p := b.greet5()
				go is.serve(p)
				c.reached("connected", connected)
				out := new(fate)
				batch := append(batchOf(1, out, "1", "other", "2"), batchOf(1, out, "3")...)
				batch[1].Topic = []byte("u")
				for i := range batch {
					batch[i].Retain = retain
				}
				c.PublishBatch(batch)
				time.Sleep(time.Minute)
				synctest.Wait()
				want, lost := []string{"2", "3", "1", "other"}, 0
				if retain {
					want, lost = []string{"2", "3", "other"}, 1
				}
				if !slices.Equal(is.taken, want) || out.lost != lost || out.n != 4-lost {
					t.Errorf("taken %q, %d told, %d lost", is.taken, out.n, out.lost)
				}
			})
		})
	}
}

// A quota of one quality of service does not hold up the other.
func TestAQuotaOfOneFlowHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{MaxInFlight: 20})
		is := &metered{takes: func(m *packets.Publish) bool { return m.QoS != 1 }}
		p := b.greet5()
		go is.serve(p)
		c.reached("connected", connected)
		out := new(fate)
		c.PublishBatch(batchOf(1, nil, numbers(100)...))
		c.PublishBatch(batchOf(2, out, numbers(100)...))
		time.Sleep(time.Minute)
		synctest.Wait()
		if out.n != 100 {
			t.Errorf("%d of 100", out.n)
		}
	})
}

// A broker whose quota has no room for us, or that we connect to too often, is not asked every few seconds.
func TestConnectsAreRareWhereAQuotaRefusesThem(t *testing.T) {
	for code, most := range map[byte]int{0x97: 30, 0x9f: 30, 0x88: 400} {
		t.Run(fmt.Sprintf("0x%02X", code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				start5(t, b, Options{})
				began, n := time.Now(), 0
				for ; time.Since(began) < 10*time.Minute; n++ {
					p := b.accept5()
					expect5[*packets.Connect](p)
					p.send(connack5(false, code))
					p.ended()
				}
				if n > most || n < most/3 {
					t.Errorf("%d connects in 10 minutes", n)
				}
			})
		})
	}
}
