package send_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// said is a message with user properties "name value".
func said(topic, payload string, pairs ...string) session.Message {
	m := fake.Message(topic, payload, 1)
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, " ")
		m.Properties = session.AppendUserProperty(m.Properties, name, []byte(value))
	}
	return m
}

// A user property is a part of the target, and of the condition; with MQTT 3.1.1 there is none.
func TestAMessageGoesWhereItsPropertiesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		when, err := mapping.ParseMessageCondition(`!(property.kind == "note")`)
		if err != nil {
			t.Fatal(err)
		}
		aim := fake.SendRule(t, "r", "t", "239.1.1.{property.room}:5000")
		other := fake.SendRule(t, "alarms", "t", "239.1.2.1:5000", func(r *mapping.SendRule) { r.When = when })
		b := newRig(t, n, fake.Plenty, aim, other)
		b.send.Handle([]session.Message{
			said("t", "a", "room 7", "room 8", "kind alarm"), said("t", "b", "kind note", "room 9"), said("t", "c", "room 300", "kind x"), fake.Message("t", "d", 1)})
		synctest.Wait()
		if got := fmt.Sprint(n.LastSocket().Took()); !strings.Contains(got, "239.1.1.7:5000") || !strings.Contains(got, "239.1.1.9:5000") || strings.Contains(got, "239.1.1.8") {
			t.Errorf("sent %s", got)
		}
		s := b.Status().Rules
		if s[0].Sent != 2 || s[0].Drops["bad_group"] != 2 || !strings.Contains(s[0].FirstDrops["bad_group"], "{property.room} is 300") {
			t.Errorf("%+v", s[0])
		}
		// what has no property is neither a note nor none
		if s[1].Sent != 2 || s[1].Filtered["when"] != 2 {
			t.Errorf("%+v", s[1])
		}
	})
}

// What waits on disk, and over a table that changes the rule, goes where its properties say.
func TestPropertiesAreKeptWithWhatWaits(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.{property.room}:5000", fake.MaxAge(time.Hour)))
	m := said("t", "b", "other 1", "room 9")
	m.Properties = append([]byte{0x02, 0, 0, 0x0e, 0x10}, m.Properties...) // and is good for an hour
	b.send.Handle([]session.Message{said("t", "a", "room 7"), m, fake.Message("t", "c", 1)})
	b.spilled(t)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "two of three", func() bool { return len(n.From("iso0")) == 2 && b.Status().Spool.Messages == 0 })
	if got := strings.Join(n.From("iso0"), ", "); got != "239.1.1.7:5000 a, 239.1.1.9:5000 b" {
		t.Errorf("sent %q", got)
	}
	if got := b.Status().Rules[0].Drops; got["bad_group"] != 1 || len(got) != 1 {
		t.Errorf("drops %v", got)
	}
}

func TestPropertiesAreKeptOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.{property.room}:5000"))
		b.send.Handle([]session.Message{said("t", "a", "room 7")})
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.2.{property.room}:5000")}, nil)
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		b.watching(time.Second)
		if got := fmt.Sprint(n.From("iso0")); got != "[239.1.2.7:5000 a]" {
			t.Errorf("sent %s, status %+v", got, b.Status().Rules[0])
		}
	})
}
