package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The faults of brokers, most of them in a bubble, where minutes pass at once.

func lostWith(text string) func(State) bool {
	return func(s State) bool { return !s.Connected && strings.Contains(s.LastErr, text) }
}

func TestEveryMalformedFrameCostsTheConnectionAndNoMore(t *testing.T) {
	for _, tt := range malformed {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}}, b.use)
				p := b.greet(false, 0)
				bad := tt.bytes
				if strings.Contains(tt.name, "SUBACK") {
					bad = suback(1, 0) // no SUBSCRIBE is out
				}
				go p.Write(bad) // the pipe breaks in the middle of it
				c.reached("lost", lostWith("broker broke the protocol"))
				p = b.greet(true, 0)
				p.send(publish(qos1, "t", 1, "goes on"))
				p.puback(1)
				c.messages(1)
			})
		})
	}
}

func TestARSTIsRecovered(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}})
	p := b.greet(false, 0)
	c.reached("connected", connected)
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
	c.reached("lost", lostWith("reset"))
	b.greet(true, 0)
	state := c.reached("connected again", func(s State) bool { return s.Connects == 2 })
	if !state.Connected || !state.SessionPresent || state.LastErr != "" {
		t.Errorf("state %+v", state)
	}
}

func TestABrokerThatAnswersNothingIsGivenUp(t *testing.T) {
	for _, tt := range []struct{ keepAlive, early, late time.Duration }{
		{5 * time.Second, 7 * time.Second, 8 * time.Second},
		{0, 35 * time.Second, 45 * time.Second},
		{2 * time.Second, 2 * time.Second, 3500 * time.Millisecond},
		{time.Minute, 50 * time.Second, time.Minute},
	} {
		t.Run(tt.keepAlive.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				b.mute = true
				c := start(t, Options{URLs: []string{b.url()}, KeepAlive: tt.keepAlive}, b.use)
				p := b.accept()
				if got := time.Duration(p.connack(false).Keepalive) * time.Second; got != cmp.Or(tt.keepAlive, 30*time.Second) {
					t.Errorf("the broker is told a keep-alive of %v", got)
				}
				c.reached("connected", connected)
				begin := time.Now()
				c.reached("lost", lostWith("no pingresp came; it hangs, or the way to it is gone"))
				if d := time.Since(begin); d < tt.early || d > tt.late {
					t.Errorf("noticed after %v", d)
				}
			})
		})
	}
}

// A sign of life may take as long as the keep-alive.
func TestABrokerThatAnswersLateIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		b.mute = true
		c := start(t, Options{URLs: []string{b.url()}, KeepAlive: 5 * time.Second}, b.use)
		p := b.greet(false, 0)
		for range 20 {
			expectPing(p)
			time.Sleep(4900 * time.Millisecond)
			p.send(pingResponse)
		}
		if state := c.State(); !state.Connected || state.Connects != 1 {
			t.Errorf("%+v", state)
		}
	})
}

// The PINGRESP of a broker on a slow line comes behind the messages.
func TestABrokerThatIsBusySendingIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		b.mute = true
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		pings := 0
		for i := range 100 {
			p.send(publish(qos0, "t", 0, "x"))
			time.Sleep(3 * time.Second)
			for len(p.in) > 0 {
				expectPing(p)
				pings++
			}
			if state := c.State(); !state.Connected || state.Connects != 1 {
				t.Fatalf("after %d s: %+v", 3*i, state)
			}
		}
		// The broker, too, wants to hear something within 1.5 keep-alives [MQTT-3.1.2-24].
		if pings < 300/45 {
			t.Errorf("%d PINGREQs in 300 s", pings)
		}
	})
}

// While messages that have come are carried the answer may be there and not be read yet; a
// connection that ended for it would bring the same messages again, and end again.
func TestABrokerIsNotGivenUpWhileItsMessagesAreCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		b.mute = true
		carry := func([]Message) { time.Sleep(22 * time.Second) }
		c := start(t, Options{URLs: []string{b.url()}, KeepAlive: 5 * time.Second, Handle: carry}, b.use)
		p := b.greet(false, 0)
		p.send(publish(qos0, "t", 0, "x"))
		pings := 0
		for begin := time.Now(); time.Since(begin) < 21*time.Second; time.Sleep(time.Second) {
			for len(p.in) > 0 {
				expectPing(p)
				pings++
			}
		}
		p.send(pingResponse)
		c.messages(1)
		if state := c.State(); !state.Connected || state.Connects != 1 {
			t.Errorf("%+v", state)
		}
		// The broker, too, wants to hear something within 1.5 keep-alives [MQTT-3.1.2-24].
		if pings < 3 {
			t.Errorf("%d PINGREQs in 21 s", pings)
		}
		begin := time.Now()
		c.reached("lost", lostWith("no pingresp came; it hangs, or the way to it is gone"))
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("that it answers nothing afterwards is noticed after %v", d)
		}
	})
}

func expectPing(p *peer) {
	p.t.Helper()
	if _, ok := p.next().(*packets.PingreqPacket); !ok {
		p.t.Error("not a PINGREQ")
	}
}

func TestABrokerThatReadsNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.acceptConnect()
		p.send(connack(false, 0), publish(qos1, "t", 1, "")) // and never reads the PUBACK
		c.messages(1)
		begin := time.Now()
		c.reached("lost", lostWith(errStalled.Error()))
		if d := time.Since(begin); d != writeTimeout {
			t.Errorf("noticed after %v", d)
		}
		b.greet(false, 0)
		c.reached("connected again", func(s State) bool { return s.Connects == 2 })
	})
}

func TestNoConnackIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		b.accept()
		begin := time.Now()
		c.reached("given up", lostWith("no CONNACK within 20s; is this its MQTT port? mqtts:// is for one with TLS, ws:// for WebSocket"))
		if d := time.Since(begin); d != connectTimeout {
			t.Errorf("given up after %v", d)
		}
	})
}

func TestABrokerThatHangsUpBeforeConnackIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.accept()
		expect[*packets.ConnectPacket](p)
		_ = p.Close()
		c.reached("failed", lostWith("closed the connection before it answered CONNECT; is this its MQTT port"))
	})
}

func TestRefusalsAreSaidInWords(t *testing.T) {
	for code, words := range []string{1: "MQTT 3.1.1", 2: "choose another client_id", 3: "server unavailable", 4: "bad user name or password", 5: "not authorized"} {
		if code == 0 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}}, b.use)
			p := b.accept()
			expect[*packets.ConnectPacket](p)
			p.send(connack(false, byte(code)))
			c.reached("refused", lostWith(words))
			// It is asked again, and never with another version of the protocol.
			if v := b.accept().connack(false).ProtocolVersion; v != 4 {
				t.Errorf("then asks with version %d", v)
			}
			c.reached("connected", connected)
			c.reached("no error left", func(s State) bool { return s.Connected && s.LastErr == "" })
		})
	}
}

func TestWhileTheBrokerIsAwayDelaysGrowTo3sAndTheLogIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		refuse := func(context.Context, *url.URL) (net.Conn, error) {
			at = append(at, time.Now())
			return nil, errors.New("nobody there")
		}
		c := start(t, Options{URLs: []string{"mqtt://memory"}}, func(s *Session) { s.open = refuse })
		time.Sleep(2 * time.Minute)
		c.stop()
		for i, want := range []time.Duration{1, 2, 3, 3, 3, 3, 3} {
			want *= time.Second
			if d := at[i+1].Sub(at[i]); d <= want/2 || d > want {
				t.Errorf("delay %d: %v, want up to %v less than half of it", i, d, want)
			}
		}
		if n := strings.Count(c.log.String(), "nobody there"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

func TestABrokerThatAcceptsAndDropsIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin"}, b.use)
		begin := time.Now()
		for range 8 {
			_ = b.greet(true, 0).Close()
		}
		if d := time.Since(begin); d < 9*time.Second {
			t.Errorf("8 connects in %v", d)
		}
		c.reached("another client is named", lostWith(`another client uses client_id "twin"`))
		// A connection that lives ends that, and the long delays.
		p := b.greet(true, 0)
		time.Sleep(stableLife + time.Second)
		_ = p.Close()
		begin = time.Now()
		b.greet(true, 0)
		if d := time.Since(begin); d > firstDelay {
			t.Errorf("reconnected after %v", d)
		}
		c.until("last words", func() bool { return c.states[len(c.states)-1].Connects == 10 })
		if last := c.states[len(c.states)-2]; last.LastErr != errBrokerClosed.Error() {
			t.Errorf("still %q", last.LastErr)
		}
	})
}

func TestTheNextAddressIsTriedAtOnce(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	first := "mqtt://" + dead.Addr().String()
	b := newBroker(t)
	c := start(t, Options{URLs: []string{first, b.url()}})
	b.greet(false, 0)
	if got := c.reached("connected", connected).Broker; got != b.url() {
		t.Errorf("connected to %s", got)
	}
}

func TestAllAddressesAreInTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{URLs: []string{"mqtt://a", "mqtts://b"}}, func(s *Session) {
			s.open = func(_ context.Context, u *url.URL) (net.Conn, error) { return nil, fmt.Errorf("no %s", u.Hostname()) }
		})
		c.reached("failed", lostWith("mqtt://a:1883: no a; mqtts://b:8883: no b"))
	})
}

func TestRunEndsAtOnceWhereverItIs(t *testing.T) {
	silent := func(t *testing.T, b *broker) { b.accept() }
	for name, reach := range map[string]func(*testing.T, *broker){
		"waiting for CONNACK": silent,
		"between connects":    func(t *testing.T, b *broker) { _ = b.accept().Close(); synctest.Wait() },
		"waiting for SUBACK":  func(t *testing.T, b *broker) { expect[*packets.SubscribePacket](b.greet(false, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "t", QoS: 0}}}, b.use)
				reach(t, b)
				begin := time.Now()
				c.stop()
				if d := time.Since(begin); d > drainTimeout {
					t.Errorf("took %v", d)
				}
				if c.State().Connected {
					t.Error("still connected")
				}
			})
		})
	}
	t.Run("while dialling", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := start(t, Options{URLs: []string{"mqtt://memory"}}, func(s *Session) {
				s.open = func(ctx context.Context, _ *url.URL) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
			})
			synctest.Wait()
			begin := time.Now()
			c.stop()
			if d := time.Since(begin); d != 0 {
				t.Errorf("took %v", d)
			}
		})
	})
}

func TestTheEndIsBoundedWhateverTheBrokerDoes(t *testing.T) {
	for name, behave := range map[string]func(p *peer){
		"no PUBACK for the status": func(p *peer) { go p.readAll() },
		"reads nothing":            func(p *peer) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s"}}, b.use)
				p := b.acceptSilent()
				for range 2 { // CONNECT, PUBLISH "online"
					cp, err := packets.ReadPacket(p)
					if err != nil {
						t.Fatal(err)
					}
					switch cp := cp.(type) {
					case *packets.ConnectPacket:
						p.send(connack(false, 0))
					case *packets.PublishPacket:
						p.send(frame(0x40, byte(cp.MessageID>>8), byte(cp.MessageID)))
					}
				}
				behave(p)
				synctest.Wait()
				begin := time.Now()
				c.stop()
				if d := time.Since(begin); d > LeaveTimeout+drainTimeout {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

func TestAStatusTopicThatIsNotAllowedIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s/1"}}, b.use)
		p := b.greet(false, 0)
		expect[*packets.PublishPacket](p)
		_ = p.Close()
		c.reached("lost", lostWith(`allows publishing to "s/1"`))
	})
}
