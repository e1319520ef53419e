package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// mosquitto closes the connection of a client with more than max_inflight_messages
// messages of QoS 2 on their way to it: 20 unless its configuration says otherwise.
// MQTT 3.1.1 has no Receive Maximum, with which it could say so before.
func TestMosquittoGetsNoMoreQoS2AtOnceThanItTakes(t *testing.T) {
	for _, tt := range []struct {
		limit       string
		maxInFlight int
		connects    int
	}{
		{"max_queued_messages 0", 0, 1},
		// Fewer than 20, which has to be said: what is too much it drops in silence.
		{"max_inflight_messages 5\nmax_queued_messages 5000", 5, 1},
		{"max_inflight_messages 1\nmax_queued_messages 5000", 1, 1},
		{"max_inflight_messages 5\nmax_queued_messages 0", 5, 1},
	} {
		t.Run(tt.limit, func(t *testing.T) {
			const n = 1000
			port := mosquitto(t, open+tt.limit+"\n")
			listener, numbers := listen(t, port, 2)
			o, beside := &teller{}, &teller{}
			c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", MaxInFlight: tt.maxInFlight},
				func(s *Session) { s.backoff.next = time.Millisecond })
			c.reached("connected", connected)
			burst := make([]Publication, 0, 2*n)
			for i := range n {
				burst = append(burst, Publication{Topic: []byte("n/2"), Payload: fmt.Append(nil, i), QoS: 2, Origin: o},
					Publication{Topic: []byte("n/1"), Payload: fmt.Append(nil, i), QoS: 1, Origin: beside})
			}
			c.PublishBatch(burst)
			listener.messages(2 * n)
			c.until("all told", func() bool { c.tell(); time.Sleep(time.Millisecond); return o.count() == n && beside.count() == n })
			got := numbers()["n/2"]
			if strings.Contains(tt.limit, "max_inflight_messages") {
				slices.Sort(got) // mosquitto hands on in another order while its queue for the listener is long
			}
			for i, got := range got {
				if got != i {
					t.Fatalf("message %d is number %d", i, got)
				}
			}
			if s := c.State(); s.Connects > tt.connects || s.Published != 2*n || s.Outstanding != 0 {
				t.Errorf("state %+v", s)
			}
			for _, line := range append(o.told(), beside.told()...) {
				if strings.HasPrefix(line, "lost") {
					t.Error(line)
				}
			}
			// What was learnt is kept.
			before := c.State().Connects
			c.PublishBatch(burst)
			listener.messages(4 * n)
			if s := c.State(); s.Connects != before {
				t.Errorf("%d connects more", s.Connects-before)
			}
		})
	}
}
