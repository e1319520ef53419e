package session

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// twoBrokers are the first and the second of a list; the first is away as long as away says so.
func twoBrokers(t *testing.T) (first, second *broker, away *atomic.Bool, o Options, use func(*Session)) {
	first, second, away = newPipeBroker(t), newPipeBroker(t), new(atomic.Bool)
	away.Store(true)
	o = Options{URLs: []string{"mqtt://first", "mqtt://second"}, ReturnAfter: time.Minute}
	return first, second, away, o, func(s *Session) {
		s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			switch {
			case u.Hostname() == "second":
				return second.dial(ctx, u)
			case away.Load():
				return nil, errors.New("away")
			}
			return first.dial(ctx, u)
		}
	}
}

func TestTheFirstBrokerOfAListIsGoneBackTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, away, o, use := twoBrokers(t)
		c := start(t, o, use)
		p := second.greet(false, 0)
		c.reached("connected to the second", connected)
		time.Sleep(10 * time.Minute)
		if s := c.State(); s.Connects != 1 {
			t.Errorf("%d connects while the first is away", s.Connects)
		}
		away.Store(false)
		try := first.accept() // by which it is seen to be there
		if connect := try.connack(false); connect.ClientIdentifier != "" || !connect.CleanSession || connect.WillFlag {
			t.Errorf("tried as %s", connect)
		}
		expect[*packets.DisconnectPacket](try)
		expect[*packets.DisconnectPacket](p)
		_ = p.Close()
		first.greet(false, 0)
		c.reached("connected to the first", func(s State) bool { return s.Connected && s.Broker == "mqtt://first:1883" && s.Losses == 0 })
		time.Sleep(time.Hour)
		if s := c.State(); s.Connects != 2 {
			t.Errorf("%d connects", s.Connects)
		}
		c.stop()
	})
}

// A first broker that takes connections, and does nothing else, is not there.
func TestAFirstBrokerThatSpeaksNoMQTTIsNotGoneBackTo(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"closes":             func(conn net.Conn) { _ = conn.Close() },
		"says nothing":       func(net.Conn) {},
		"another protocol":   func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"server unavailable": func(conn net.Conn) { _, _ = conn.Write(connack(false, 3)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second, away, o, use := twoBrokers(t)
				c := start(t, o, use)
				second.greet(false, 0)
				c.reached("connected", connected)
				away.Store(false)
				var tries atomic.Int32
				go func() {
					for conn := range first.conns {
						tries.Add(1)
						go io.Copy(io.Discard, conn)
						answer(conn)
					}
				}()
				time.Sleep(time.Hour + 30*time.Second)
				if s := c.State(); s.Connects != 1 || tries.Load() < 30 {
					t.Errorf("%d connects, %d tries", s.Connects, tries.Load())
				}
				c.stop()
				close(first.conns)
				time.Sleep(time.Minute)
			})
		})
	}
}

// One that answers, and does not hold us, is gone back to ever more rarely; so does one that knows us by our
// name alone.
func TestAFirstBrokerThatDoesNotHoldUsIsTriedEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, away, o, use := twoBrokers(t)
		o.ClientID, o.Clean = "gateway", false
		c := start(t, o, use)
		go func() {
			for conn := range first.conns {
				go func() {
					defer conn.Close()
					p, err := packets.ReadPacket(conn)
					if connect, ok := p.(*packets.ConnectPacket); err == nil && ok && connect.ClientIdentifier == "" {
						_, _ = conn.Write(connack(false, 2)) // identifier rejected
						_, _ = io.Copy(io.Discard, conn)
					}
				}()
			}
		}()
		away.Store(false)
		began, n := time.Now(), 0
		for time.Since(began) < 12*time.Hour {
			p := second.greet(n > 0, 0)
			n++
			for len(p.in) == 0 && time.Since(began) < 24*time.Hour {
				time.Sleep(time.Second)
			}
			expect[*packets.DisconnectPacket](p)
			_ = p.Close()
		}
		if n < 10 || n > 20 { // 1, 2, 4 … 64 minutes, and 64 from then on
			t.Errorf("gone back %d times in twelve hours", n)
		}
		second.greet(true, 0)
		c.stop()
		close(first.conns)
		time.Sleep(time.Minute)
	})
}
