package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Ends of connections, and who is to blame.

// obey answers all that comes, until the connection is over or end says so.
func (p *peer) obey(end func(packets.ControlPacket) bool) {
	for cp := range p.in {
		if end != nil && end(cp) {
			_ = p.Close()
			continue
		}
		switch m := cp.(type) {
		case *packets.ConnectPacket:
			_, _ = p.Write(connack(true, 0))
		case *packets.SubscribePacket:
			_, _ = p.Write(suback(m.MessageID, m.Qoss...))
		case *packets.UnsubscribePacket:
			_, _ = p.Write(frame(0xb0, byte(m.MessageID>>8), byte(m.MessageID)))
		case *packets.PublishPacket:
			if m.Qos == 1 {
				_, _ = p.Write(frame(0x40, byte(m.MessageID>>8), byte(m.MessageID)))
			}
		}
	}
}

// endings are what was said when connections ended.
func (c *client) endings() (texts []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.states {
		if i > 0 && c.states[i-1].Connected && !s.Connected {
			texts = append(texts, s.LastErr)
		}
	}
	return texts
}

// namesTheTwin checks what was said to name the client identifier from the third
// end on, or so many later, and something of ours once at most: when the first connection ended that
// had asked for anything, which is the first or the second.
func namesTheTwin(t *testing.T, endings []string, later int) {
	t.Helper()
	blamed := 0
	for i, text := range endings {
		if named := strings.Contains(text, `client_id "twin"`); i >= maxEarlyCloses-1+later && !named {
			t.Errorf("end %d: %s", i+1, text)
		}
		if strings.Contains(text, "when told") || strings.Contains(text, "when asked") || strings.Contains(text, "when given") {
			if blamed++; blamed > 1 || i > 1 {
				t.Errorf("end %d: %s", i+1, text)
			}
		}
	}
}

// Another client with our identifier comes so long after us. It catches us at our
// SUBSCRIBE, at our status, at our messages, or when we are quiet.
func TestAnotherClientWithOurIdentifierIsNamed(t *testing.T) {
	for name, answer := range map[string]time.Duration{"at once": 0, "fast": time.Millisecond, "slow": 300 * time.Millisecond} {
		for _, after := range []time.Duration{0, 2 * time.Millisecond, 310 * time.Millisecond, time.Second, 4 * time.Second} {
			t.Run(fmt.Sprintf("after %v, answers %s", after, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newPipeBroker(t)
					c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Status: &Status{"s"}, Subscriptions: manyFilters(5)}, b.use)
					o := &teller{}
					c.PublishBatch(batchOf(1, o, "a", "b", "c"))
					for range 10 {
						p := b.greet(true, 0)
						cut := time.AfterFunc(after, func() { _ = p.Close() })
						p.obey(func(cp packets.ControlPacket) bool {
							if _, ok := cp.(*packets.PubrelPacket); !ok { // there are a thousand of what may have been left
								time.Sleep(answer)
							}
							return false
						})
						cut.Stop()
					}
					synctest.Wait()
					later := 0
					if after == 0 { // at some of the ends nothing of ours was on its way yet, at others something was
						later = 1
					}
					namesTheTwin(t, c.endings(), later)
					for _, sub := range c.subscriptions() {
						if sub.Err != "" {
							t.Errorf("%+v", sub)
						}
					}
					for _, line := range o.told() {
						if strings.HasPrefix(line, "lost") {
							t.Error(line)
						}
					}
				})
			})
		}
	}
}

// It comes when all has been well for long, and then again and again.
func TestAnotherClientThatComesLaterIsNamed(t *testing.T) {
	for _, at := range []string{"SUBSCRIBE", "status"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Status: &Status{"s"}, Subscriptions: manyFilters(5)}, b.use)
				p := b.greet(true, 0)
				go p.obey(nil)
				time.Sleep(2 * stableLife)
				_ = p.Close()
				for range 6 {
					p := b.greet(true, 0)
					cut := time.AfterFunc(100*time.Millisecond, func() { _ = p.Close() })
					p.obey(func(cp packets.ControlPacket) bool {
						_, subscribe := cp.(*packets.SubscribePacket)
						return subscribe == (at == "SUBSCRIBE")
					})
					cut.Stop()
				}
				synctest.Wait()
				endings := c.endings()[1:]
				namesTheTwin(t, endings, 0)
				if endings[0] != errBrokerClosed.Error() {
					t.Errorf("the first said %q", endings[0])
				}
			})
		})
	}
}

// A long list is always being asked for when the other client comes. Nothing is
// left out for that.
func TestAnotherClientWhileALongListIsAskedForIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Subscriptions: manyFilters(40_000)}, b.use)
		r := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			p := b.greet(true, 0)
			cut := time.AfterFunc(2*time.Second+time.Duration(r.IntN(1000))*time.Millisecond, func() { _ = p.Close() })
			p.obey(func(packets.ControlPacket) bool { time.Sleep(50 * time.Millisecond); return false })
			cut.Stop()
		}
		synctest.Wait()
		named := 0
		for _, text := range c.endings() {
			if strings.Contains(text, `client_id "twin"`) {
				named++
			}
		}
		// It may look like a filter when it comes at the same one twice, and both it and
		// the pause before a list is asked for vary at random: 45 of 60 as a rule.
		if named < 20 {
			t.Errorf("named %d times: %q", named, c.endings())
		}
		if state := c.State(); len(state.Troubled) > 0 {
			t.Errorf("left out: %+v", state.Troubled)
		}
	})
}

// What a broker allows can change.
func TestAFilterThatIsNoLongerAllowedIsFoundAndLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		subs := manyFilters(600)
		c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Subscriptions: subs}, b.use)
		p := b.greet(true, 0)
		go p.obey(nil)
		time.Sleep(2 * stableLife)
		_ = p.Close()
		const bad = "site/300/lamp/+/set"
		for connects := 0; ; connects++ {
			if connects > 12 {
				t.Fatalf("12 connects: %q", c.endings())
			}
			p := b.greet(true, 0)
			done := time.AfterFunc(20*time.Second, func() { _ = p.Close() })
			var ended bool
			p.obey(func(cp packets.ControlPacket) bool {
				s, ok := cp.(*packets.SubscribePacket)
				ended = ended || ok && strings.Contains(fmt.Sprint(s.Topics), bad)
				return ended
			})
			done.Stop()
			if !ended {
				break
			}
		}
		synctest.Wait()
		log := c.log.String()
		if strings.Contains(log, "twin") || !strings.Contains(log, `when asked for filter \"`+bad) {
			t.Errorf("not named in the log:\n%s", log)
		}
	})
}

// Each connection works, and its broker dies: the next is not put off for longer
// and longer. A broker that ends them at once is.
func TestOnlyConnectionsThatAreEndedAtOnceArePutOff(t *testing.T) {
	for _, life := range []time.Duration{usefulLife, 10 * time.Second, 0, time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(5)}, b.use)
				longest := time.Duration(0)
				for range 8 {
					p := b.greet(true, 0)
					kill := time.AfterFunc(life, func() { _ = p.Close() })
					p.obey(nil)
					kill.Stop()
					begin := time.Now()
					conn := <-b.conns
					longest = max(longest, time.Since(begin))
					b.conns <- conn
				}
				if life >= usefulLife && longest > firstDelay {
					t.Errorf("put off for %v", longest)
				}
				if least := maxDelay/2 - maxIdle/2; life < usefulLife && longest < least {
					t.Errorf("put off for %v at most, want %v", longest, least)
				}
			})
		})
	}
}

// A broker that was away between two connections has not been asked by another
// client to end them.
func TestABrokerThatDiesAgainAndAgainIsNotTakenForAnotherClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		tries := 0
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: manyFilters(5)}, func(s *Session) {
			s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
				if tries++; tries%2 == 0 {
					return nil, os.ErrNotExist
				}
				return b.dial(ctx, u)
			}
		})
		for range 8 {
			p := b.greet(true, 0)
			kill := time.AfterFunc(10*time.Second, func() { _ = p.Close() })
			p.obey(nil)
			kill.Stop()
		}
		synctest.Wait()
		if log := c.log.String(); strings.Contains(log, "another client") {
			t.Error(log)
		}
	})
}

func TestMosquittoTwoClientsWithOneIdentifierAreNamed(t *testing.T) {
	t.Parallel() // it waits most of the time
	port := mosquitto(t, open)
	o := Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "twin", Status: &Status{"s"}, Subscriptions: manyFilters(5)}
	first := start(t, o)
	second := start(t, o)
	first.reached("named", lostWith(`client_id "twin"`))
	second.reached("named", lostWith(`client_id "twin"`))
}
