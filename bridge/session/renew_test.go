package session

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Before a password ends the session has logged in with the next one: in good order, and at once.
func TestTheSessionLogsInAnewBeforeThePasswordEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, logged := newPipeBroker(t), new(logBuffer)
		n := 0
		c := start(t, Options{URLs: []string{b.url()}, Username: "me", Status: &Status{"status"},
			Password: func() (string, error) { n++; return fmt.Sprint("token ", n), nil },
			Lifetime: func(password string) time.Duration {
				if password != fmt.Sprint("token ", n) && password != fmt.Sprint("token ", n-1) {
					t.Errorf("asked for %q", password)
				}
				return 10 * time.Second
			},
			Logger: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelWarn}))}, b.use)
		for i := range 5 {
			p := b.accept()
			if connect := p.connack(i > 0); string(connect.Password) != fmt.Sprint("token ", i+1) {
				t.Errorf("login %d with %q", i+1, connect.Password)
			}
			if m := expect[*packets.PublishPacket](p); string(m.Payload) != statusOnline {
				t.Errorf("says %q", m.Payload)
			} else {
				p.send(frame(typePuback<<4, byte(m.MessageID>>8), byte(m.MessageID)))
			}
			c.reached("connected", connected)
			began := time.Now()
			if i == 4 {
				break
			}
			if m := expect[*packets.PublishPacket](p); string(m.Payload) != statusOffline {
				t.Errorf("says %q", m.Payload)
			} else {
				p.send(frame(typePuback<<4, byte(m.MessageID>>8), byte(m.MessageID)))
			}
			expect[*packets.DisconnectPacket](p)
			if d := time.Since(began); d < 8*time.Second || d > 10*time.Second {
				t.Errorf("left after %v", d)
			}
			_ = p.Close()
		}
		if s := c.State(); s.Losses != 0 || logged.String() != "" {
			t.Errorf("%d losses, logged %s", s.Losses, logged)
		}
		c.stop()
	})
}

// As long as there is no other password the connection goes on, whatever keeps the next one from coming.
func TestTheConnectionGoesOnUntilThereIsAnotherPassword(t *testing.T) {
	for name, next := range map[string]func() (string, error){
		"the same": password("token"),
		"none":     func() (string, error) { return "", errors.New("no token today") },
		"late":     func() (string, error) { time.Sleep(time.Hour); return "", errors.New("too late") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				var asked atomic.Int32
				var get atomic.Pointer[func() (string, error)]
				set := func(f func() (string, error)) { get.Store(&f) }
				set(password("token"))
				c := start(t, Options{URLs: []string{b.url()}, Username: "me", Lifetime: func(string) time.Duration { return 10 * time.Second },
					Password: func() (string, error) { asked.Add(1); return (*get.Load())() }}, b.use)
				b.greet(false, 0)
				c.reached("connected", connected)
				set(next)
				time.Sleep(59 * time.Minute)
				if s, n := c.State(), asked.Load(); !s.Connected || s.Connects != 1 || n < 2 || n > 20 {
					t.Errorf("connected %t, %d connects in an hour; the password was asked for %d times", s.Connected, s.Connects, n)
				}
				if n := strings.Count(c.log.String(), "there is no new password yet"); name == "none" && n != 1 || name == "the same" && n != 0 {
					t.Errorf("told %d times", n)
				}
				set(password("next"))
				for range 600 {
					if time.Sleep(time.Second); len(b.conns) > 0 {
						break
					}
				}
				b.greet(true, 0)
				c.reached("connected anew", func(s State) bool { return s.Connected && s.Connects == 2 })
				c.stop()
				time.Sleep(time.Hour)
			})
		})
	}
}

func TestAPasswordWithoutAnEndIsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var asked atomic.Int32
		c := start(t, Options{URLs: []string{b.url()}, Username: "me", Password: func() (string, error) { asked.Add(1); return "for ever", nil },
			Lifetime: func(string) time.Duration { return 0 }}, b.use)
		b.greet(false, 0)
		time.Sleep(time.Hour)
		if s := c.State(); s.Connects != 1 || asked.Load() != 1 {
			t.Errorf("%d connects in an hour, asked for %d times", s.Connects, asked.Load())
		}
		c.stop()
	})
}

// The network fails in between: what is left of the time of a password counts.
func TestThePasswordsTimeGoesOnOverConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		began := time.Now()
		c := start(t, Options{URLs: []string{b.url()}, Username: "me", Lifetime: func(string) time.Duration { return time.Hour }, Password: func() (string, error) {
			if time.Since(began) > 52*time.Minute {
				return "second", nil
			}
			return "first", nil
		}}, b.use)
		p := b.greet(false, 0)
		time.Sleep(50 * time.Minute)
		_ = p.Close()
		p = b.greet(true, 0)
		for len(p.in) == 0 && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		expect[*packets.DisconnectPacket](p)
		if d := time.Since(began); d < 54*time.Minute || d > 55*time.Minute {
			t.Errorf("left after %v", d)
		}
		_ = p.Close()
		b.greet(true, 0)
		c.stop()
	})
}

// The end waits for no command that prints a password.
func TestTheEndWaitsForNoPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Username: "me", Password: func() (string, error) {
			time.Sleep(20 * time.Second)
			return "late", nil
		}}, b.use)
		time.Sleep(time.Second)
		began := time.Now()
		c.stop()
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		time.Sleep(time.Minute)
	})
}
