package session

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// publishing publishes one message after the other until the test ends, or stop is
// called.
func (c *client) publishing(t *testing.T, qos byte, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.PublishBatch(batchOf(qos, nil, "x"))
			time.Sleep(every)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// A broker that closes because of what it is told is not taken for another client.
func TestNoOtherClientIsSuggestedWhereTheBrokerHadNotAnswered(t *testing.T) {
	isPublish := func(cp packets.ControlPacket, qos byte) bool {
		m, ok := cp.(*packets.PublishPacket)
		return ok && m.Qos == qos && m.TopicName != "s"
	}
	for _, tt := range []struct {
		name string
		qos  byte
		subs int
		end  func(n int, cp packets.ControlPacket) bool // n publications came before on this connection
		want string
	}{
		{"a second message of QoS 1", 1, 3, func(n int, cp packets.ControlPacket) bool { return n == 1 && isPublish(cp, 1) }, "messages of QoS 1"},
		{"a message of QoS 0", 0, 3, func(_ int, cp packets.ControlPacket) bool { return isPublish(cp, 0) }, "messages of QoS 0"},
		{"a tenth message of QoS 0", 0, 0, func(n int, cp packets.ControlPacket) bool { return n == 10 && isPublish(cp, 0) }, "messages of QoS 0"},
		{"a message of QoS 2, not the first", 2, 0, func(n int, cp packets.ControlPacket) bool { return n == 2 && isPublish(cp, 2) }, "messages of QoS 2"},
		{"a PUBREL", 2, 0, func(_ int, cp packets.ControlPacket) bool { _, ok := cp.(*packets.PubrelPacket); return ok }, "messages of QoS 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Subscriptions: manyFilters(tt.subs)}, b.use)
				c.publishing(t, tt.qos, 100*time.Millisecond)
				for range 12 {
					p := b.greet(true, 0)
					n := 0
					p.obey(func(cp packets.ControlPacket) bool {
						if tt.end(n, cp) {
							return true
						}
						switch m := cp.(type) {
						case *packets.PublishPacket:
							if n++; m.Qos == 2 {
								_, _ = p.Write(frame(0x50, byte(m.MessageID>>8), byte(m.MessageID)))
							}
						case *packets.PubrelPacket:
							_, _ = p.Write(frame(0x70, byte(m.MessageID>>8), byte(m.MessageID)))
						}
						return false
					})
				}
				synctest.Wait()
				named := 0
				for _, text := range c.endings() {
					if strings.Contains(text, "client_id") {
						t.Error(text)
					}
					if strings.Contains(text, tt.want) {
						named++
					}
				}
				if named < 3 {
					t.Errorf("%s named %d times: %q", tt.want, named, c.endings())
				}
			})
		})
	}
}

// Another client is found out also by who is never quiet.
func TestAnotherClientIsNamedThoughBothPublish(t *testing.T) {
	for _, qos := range []byte{0, 1} { // of which the broker has never answered all
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				conns := make(chan net.Conn)
				open := func(s *Session) {
					s.open = func(ctx context.Context, _ *url.URL) (net.Conn, error) {
						ours, theirs := net.Pipe()
						conns <- theirs
						return pipe{ours}, ctx.Err()
					}
				}
				var broker sync.WaitGroup
				broker.Go(func() { // that closes the connection of the one when the other comes [MQTT-3.1.4-2]
					var last *peer
					for ctx.Err() == nil {
						select {
						case conn := <-conns:
							p := &peer{t: t, Conn: conn, in: make(chan packets.ControlPacket, 1<<14)}
							broker.Go(p.readAll)
							broker.Go(func() { p.obey(func(packets.ControlPacket) bool { time.Sleep(40 * time.Millisecond); return false }) })
							if last != nil {
								_ = last.Close()
							}
							last = p
						case <-ctx.Done():
						}
					}
				})
				var both [2]*client
				for i := range both {
					both[i] = start(t, Options{URLs: []string{"mqtt://memory"}, ClientID: "twin", Status: &Status{"s"}, Subscriptions: manyFilters(3)}, open)
					both[i].publishing(t, qos, 50*time.Millisecond)
				}
				time.Sleep(5 * time.Minute)
				for _, c := range both {
					c.stop()
				}
				cancel()
				broker.Wait()
				for _, c := range both {
					named, late := 0, c.endings()[6:]
					for _, text := range late {
						if strings.Contains(text, `probably another client uses client_id "twin"`) {
							named++
						}
					}
					if named < len(late)/2 {
						t.Errorf("named %d times: %q", named, c.endings())
					}
				}
			})
		})
	}
}

// What a broker says of the session tells what it may be.
func TestABrokerThatForgetsOrCannotGoOnIsSaidToPerhaps(t *testing.T) {
	for _, tt := range []struct {
		name           string
		present, clean bool
		life           time.Duration
		want           string
		not            []string
	}{
		{"forgets", false, false, time.Second, `has forgotten the session; it is restarted, or another client uses client_id "twin"`, []string{"probably"}},
		{"cannot go on", true, false, 0, `probably another client uses client_id "twin": give each its own; else it cannot go on with the session`, nil},
		{"another client", true, false, time.Second, `probably another client uses client_id "twin"`, []string{"go on", "forgotten"}},
		{"clean", false, true, time.Second, `probably another client uses client_id "twin"`, []string{"go on", "forgotten"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c := start(t, Options{URLs: []string{b.url()}, ClientID: "twin", Clean: tt.clean}, b.use)
				for range 4 {
					p := b.greet(tt.present, 0)
					kill := time.AfterFunc(tt.life, func() { _ = p.Close() })
					p.obey(nil)
					kill.Stop()
				}
				synctest.Wait()
				text := c.State().LastErr
				if !strings.Contains(text, tt.want) {
					t.Errorf("got %s, want %s", text, tt.want)
				}
				for _, not := range tt.not {
					if strings.Contains(text, not) {
						t.Errorf("got %s", text)
					}
				}
			})
		})
	}
}
