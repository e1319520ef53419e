package session

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// Any publisher can give a message any number of user properties. However many there are, it is
// handed on or skipped, and acknowledged: a broker would repeat it on each connection.
func TestAMessageWithManyPropertiesEndsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start5(t, b, Options{Subscriptions: []Subscription{{Filter: "a/#", QoS: 1}}})
		p := b.greet5()
		p.suback5(1)
		properties := func(size int) (props []byte) {
			for len(props) < size {
				props = append(props, slices.Concat([]byte{0x26, 0, 1, 'k', 0xea, 0x60}, bytes.Repeat([]byte("v"), 60000))...)
			}
			return props
		}
		p.send(publish5(qos1, "a/fits", 1, properties(maxProperties), "x"),
			publish5(qos1, "a/large", 2, properties(MaxMessage), "xy"),
			publish5(qos1, "a/larger", 3, properties(4*MaxMessage), ""),
			publish5(qos1, "a/with", 4, properties(1), strings.Repeat("z", MaxMessage)),
			publish5(qos1, "a/after", 5, nil, "x"))
		want := []summary{
			{"a/fits", "x", 1, false, false, 1, false}, {"a/large", "", 1, false, false, 2, true}, {"a/larger", "", 1, false, false, 0, true},
			{"a/with", "", 1, false, false, MaxMessage, true}, {"a/after", "x", 1, false, false, 1, false},
		}
		ms := c.messages(5)
		if diff := cmp.Diff(want, summaries(ms)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n := len(ms[0].Properties); n < maxProperties {
			t.Errorf("of those that fit come %d bytes", n)
		}
		for id := range uint16(5) {
			if ack := expect5[*packets.Puback](p); ack.PacketID != id+1 || ack.ReasonCode != 0 {
				t.Errorf("%v, want that of %d", ack, id+1)
			}
		}
	})
}
