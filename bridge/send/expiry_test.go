package send_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// goodFor is a message that is good for some seconds (MQTT 5, 3.3.2.3.3).
func goodFor(seconds uint32, topic, payload string) session.Message {
	m := fake.Message(topic, payload, 1)
	m.Properties = binary.BigEndian.AppendUint32([]byte{0x02}, seconds)
	return m
}

// What waits longer than its message is good for never leaves, whatever it waits for, and what is
// behind it does.
func TestAMessageIsNotSentAfterItsExpiry(t *testing.T) {
	for name, full := range map[string]error{"no interface": nil, "a full queue": multicast.ErrNoBuffer} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{}
				if full != nil {
					n.Present = []multicast.Interface{fake.Iso0}
				}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(time.Hour)))
				if full != nil {
					n.LastSocket().Allow(0, full)
					<-n.LastSocket().Free
				}
				b.send.Handle([]session.Message{goodFor(5, "t", "late"), goodFor(60, "t", "in time"), fake.Message("t", "for ever", 1), goodFor(0, "t", "now")})
				b.watching(10 * time.Second)
				if full == nil {
					n.Set(fake.Iso0)
					b.reconcile(t.Context())
				} else {
					n.LastSocket().Allow(10, nil)
				}
				b.watching(5 * time.Second)
				if got := strings.Join(fake.Payloads(n.LastSocket().Took()), ", "); got != "in time, for ever" {
					t.Errorf("sent %q", got)
				}
				if got := b.Status().Rules[0].Drops; got["expired"] != 2 || len(got) != 1 {
					t.Errorf("drops %v", got)
				}
			})
		})
	}
}

// max_age holds too, whichever is over first.
func TestTheShorterOfMaxAgeAndExpiryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(5*time.Second)))
		b.send.Handle([]session.Message{goodFor(60, "t", "x")})
		b.watching(10 * time.Second)
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		b.watching(time.Second)
		if got := b.Status().Rules[0].Drops; got["expired"] != 1 {
			t.Errorf("drops %v", got)
		}
	})
}

func TestAMessageOnDiskIsNotSentAfterItsExpiry(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	b.send.Handle([]session.Message{goodFor(1, "t", "late"), goodFor(3600, "t", "in time"), fake.Message("t", "for ever", 1)})
	b.spilled(t)
	time.Sleep(1100 * time.Millisecond) // the spool's time is not that of a bubble
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "two of three", func() bool { return len(n.From("iso0")) == 2 && b.Status().Spool.Messages == 0 })
	if got := strings.Join(n.From("iso0"), ", "); got != "239.1.1.1:5000 in time, 239.1.1.1:5000 for ever" {
		t.Errorf("sent %q", got)
	}
	if got := b.Status().Rules[0].Drops; got["expired"] != 1 {
		t.Errorf("drops %v", got)
	}
}

// A refresh ends with the message's expiry.
func TestARefreshEndsWithTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "r", "t", "239.1.1.1:5000", refresh(time.Second)))
		b.send.Handle([]session.Message{goodFor(10, "t", "x")})
		time.Sleep(9 * time.Second)
		if got := b.Status().Rules[0].Kept; got != 1 {
			t.Errorf("%d topics are kept before", got)
		}
		time.Sleep(3 * time.Second)
		from := time.Now()
		time.Sleep(time.Minute)
		if got := left.since(from); len(got) > 0 || b.Status().Rules[0].Kept != 0 {
			t.Errorf("sent %q after it, %d topics kept", got, b.Status().Rules[0].Kept)
		}
	})
}
