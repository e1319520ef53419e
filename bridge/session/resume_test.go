package session

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// A message of QoS 2 whose PUBREC the broker has not seen, on the next connection.
func TestQoS2IsHandedOnOnceOverConnections(t *testing.T) {
	held := func(t *testing.T, b *broker) (*client, func() []Ack) {
		var acks []Ack
		c := start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) {
			for i := range batch {
				if m := &batch[i]; string(m.Payload) == "hold" {
					m.Hold = true
					acks = append(acks, m.Ack)
				}
			}
		}}, b.use)
		return c, func() []Ack { synctest.Wait(); return acks }
	}
	want := func(t *testing.T, p *peer, acks ...string) {
		t.Helper()
		synctest.Wait()
		if diff := cmp.Diff(acks, p.acks()); diff != "" {
			t.Error(diff)
		}
	}
	first := func(b *broker, c *client) {
		p := b.greet(false, 0)
		p.send(publish(qos2, "t", 7, "hold"), publish(qos2, "t", 8, "done, but behind the other"))
		c.messages(2)
		want(t, p)
		_ = p.Close()
	}
	again := [][]byte{publish(qos2|dup, "t", 7, "hold"), publish(qos2|dup, "t", 8, "done, but behind the other"), publish(qos2, "t", 9, "new")}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, b *broker, c *client, acks func() []Ack)
	}{
		{"held on", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			p := b.greet(true, 0)
			p.send(again...)
			if n := len(c.messages(3)); n != 3 {
				t.Errorf("%d messages, want 3", n)
			}
			want(t, p)
			acks()[0].Done()
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
			acks()[0].Done()
			want(t, p)
		}},
		{"done between", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			acks()[0].Done()
			p := b.greet(true, 0)
			p.send(again...)
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
			if n := len(c.messages(3)); n != 3 {
				t.Errorf("%d messages, want 3", n)
			}
		}},
		{"over three connections", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			for range 2 {
				p := b.greet(true, 0)
				p.send(again[:2]...)
				want(t, p)
				_ = p.Close()
			}
			p := b.greet(true, 0)
			p.send(again...)
			want(t, p)
			acks()[0].Done()
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
			if n := len(c.messages(3)); n != 3 {
				t.Errorf("%d messages, want 3", n)
			}
		}},
		{"let go", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			acks()[0].Redeliver()
			p := b.greet(true, 0)
			p.send(again...)
			if n := len(c.messages(4)); n != 4 {
				t.Errorf("%d messages, want 4: what was let go is to be handed on again, what was done is not", n)
			}
			acks()[0].Done() // too late: there is another one for it
			want(t, p)
			if n := c.State().Held; n != 3 {
				t.Errorf("%d held, want 3", n)
			}
			acks()[1].Done()
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
			if n := c.State().Held; n != 0 {
				t.Errorf("%d held, want none", n)
			}
		}},
		{"let go on the second", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			p := b.greet(true, 0)
			p.send(again[:2]...)
			want(t, p)
			acks()[0].Redeliver()
			_ = p.Close()
			p = b.greet(true, 0)
			p.send(again...)
			if n := len(c.messages(4)); n != 4 {
				t.Errorf("%d messages, want 4", n)
			}
			acks()[1].Done()
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
		}},
		{"no session", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			p := b.greet(false, 0)
			p.send(again...)
			if n := len(c.messages(5)); n != 5 {
				t.Errorf("%d messages, want 5", n)
			}
			acks()[0].Done()
			want(t, p)
			acks()[1].Done()
			want(t, p, "PUBREC 7", "PUBREC 8", "PUBREC 9")
		}},
		{"another message with the identifier", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			p := b.greet(true, 0)
			p.send(publish(qos2, "t", 7, "another"), frame(0x62, 0, 8), publish(qos2|dup, "t", 8, "another"))
			if n := len(c.messages(4)); n != 4 {
				t.Errorf("%d messages, want 4", n)
			}
		}},
		{"not repeated on the next", func(t *testing.T, b *broker, c *client, acks func() []Ack) {
			_ = b.greet(true, 0).Close()
			p := b.greet(true, 0)
			p.send(publish(qos2|dup, "t", 7, "perhaps another"))
			if n := len(c.messages(3)); n != 3 {
				t.Errorf("%d messages, want 3", n)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newPipeBroker(t)
				c, acks := held(t, b)
				first(b, c)
				tt.do(t, b, c, acks)
			})
		})
	}
}
