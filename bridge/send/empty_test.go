package send_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestAClearedTopicSendsNothingWhereTheRuleSaysSo(t *testing.T) {
	for _, c := range []struct {
		payload, on, clear string
		drop               bool
		want               string
		filtered           uint64
	}{
		{"raw", "on", "", false, "on,,on", 0},
		{"raw", "on", "", true, "on,on", 1},
		{"hex", "6f6e", "", true, "on,on", 1},
		{"hex", "6f6e", "  ", true, "on,on", 1},
		{"base64", "b24=", "", true, "on,on", 1},
		{"json:/v", `{"v":"on"}`, `{"v":""}`, true, "on,on", 1},
		{"json:/v", `{"v":"on"}`, "", true, "on,on", 1}, // not bad_payload
		{"json:/v", `{"v":"on"}`, `{"v":""}`, false, "on,,on", 0},
	} {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", func(r *mapping.SendRule) {
			r.Payload, _ = mapping.ParsePayload(c.payload)
			r.DropEmpty = c.drop
		}))
		retained := func(payload string) []session.Message {
			m := fake.Message("t", payload, 1)
			m.Retain = true
			return []session.Message{m}
		}
		b.send.Handle(retained(c.on))
		b.send.Handle([]session.Message{fake.Message("t", c.clear, 1)})
		b.send.Handle(retained(c.on)) // after a clear the same is new
		b.send.Handle(retained(c.on))
		var got []string
		for _, line := range n.LastSocket().Took() {
			_, payload, _ := strings.Cut(line, " ")
			got = append(got, payload)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, ",")); diff != "" {
			t.Errorf("%s, drop %v: %s", c.payload, c.drop, diff)
		}
		s := b.Status().Rules[0]
		if s.Filtered["empty"] != c.filtered || len(s.Drops) != 0 || s.Filtered["retained"] != 1 {
			t.Errorf("%s, drop %v: filtered %v, drops %v", c.payload, c.drop, s.Filtered, s.Drops)
		}
	}
}
