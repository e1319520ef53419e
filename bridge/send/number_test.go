package send_test

import (
	"context"
	"fmt"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/tap"
	"topicast/internal/lab/fake"
)

// Who watches sees a datagram as it left, with its number: a recording is to be what was on the network.
func TestThoseWhoWatchAreToldOfADatagramWithItsNumber(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "counts", "a/{id}", "239.1.1.{id}:5000", counter("u8@0")),
		fake.SendRule(t, "plain", "b", "239.1.1.1:5000"))
	w, err := b.watched.Tap.Watch(tap.Filter{Payload: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 2 {
		b.send.Handle([]session.Message{fake.Message("a/1", "xa", 1), fake.Message("b", "b", 1), fake.Message("a/2", "xc", 1), fake.Message("a/1", "xd", 1)})
	}
	at, end := context.WithCancel(t.Context())
	end() // Next waits for nothing
	events, _, _ := w.Next(at)
	told := make(map[string]bool)
	for _, e := range events {
		told[fmt.Sprintf("%s %q", e.To, e.Payload)] = e.TTL == 1
	}
	for _, want := range []string{`"\x00a"`, `"b"`, `"\x01d"`, `"\x02a"`, `"\x03d"`} {
		if want = "239.1.1.1:5000 " + want; !told[want] {
			t.Errorf("%s is not among %v", want, told)
		}
	}
	if !told[`239.1.1.2:5000 "\x00c"`] || !told[`239.1.1.2:5000 "\x01c"`] || len(events) != 8 {
		t.Errorf("%v", told)
	}
}
