package send_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// replyTo has a message name a response topic and, unless it is nil, correlation data (MQTT 5, 4.10).
func replyTo(m session.Message, topic string, data []byte) session.Message {
	m.Properties = append([]byte{0x08, byte(len(topic) >> 8), byte(len(topic))}, topic...)
	if data != nil {
		m.Properties = append(append(m.Properties, 0x09, byte(len(data)>>8), byte(len(data))), data...)
	}
	return m
}

// The answer to a request, and that there is none, go where the request says, with its data; those of
// other requests go where the rule says.
func TestAnAnswerGoesWhereTheRequestSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{
			replyTo(ask(1, "x"), "back/1", []byte{0, 0xff, 7}), replyTo(ask(2, "x"), "back/2", nil), ask(3, "x"), replyTo(ask(4, "x"), "back/4", []byte{})})
		synctest.Wait()
		for i, from := range []string{"172.17.9.1:1010", "172.17.9.3:1010", "172.17.9.4:1010"} {
			b.network.LastSocket().Say(from, string(rune('A'+i)))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		got := map[string]string{}
		for i := range b.said.Published() {
			m := b.said.Batch(i)
			got[string(m.Topic)] = string(m.Payload) + "|" + string(m.Properties)
		}
		want := map[string]string{"back/1": "A|\x09\x00\x03\x00\xff\x07", "back/2": `{"reason":"unanswered","topic":"q/2","target":"172.17.9.2:1010","tries":1}|`,
			"answer/3": "B|", "back/4": "C|\x09\x00\x00"}
		for topic, w := range want {
			if got[topic] != w {
				t.Errorf("%s: %q, want %q", topic, got[topic], w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("published %q", got)
		}
	})
}

// A response topic that would make a request of the answer, or is none, is not used.
func TestAResponseTopicThatMustNotBeIsNotUsed(t *testing.T) {
	for name, m := range map[string]session.Message{
		"a request again":       replyTo(ask(7, "x"), "q/8", nil),
		"a wildcard":            replyTo(ask(7, "x"), "back/#", nil),
		"the broker's own":      replyTo(ask(7, "x"), "$SYS/x", nil),
		"too long":              replyTo(ask(7, "x"), strings.Repeat("t", 1025), nil),
		"too long correlation":  replyTo(ask(7, "x"), "back", make([]byte, 1025)),
		"an empty one":          replyTo(ask(7, "x"), "", []byte{1}),
		"correlation data only": {Topic: []byte("q/7"), Payload: []byte("x"), QoS: 1, Properties: []byte{0x09, 0, 1, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := timing(t, rigOptions{}, devices(t))
				b.send.Handle([]session.Message{m})
				synctest.Wait()
				b.network.LastSocket().Say("172.17.9.7:1010", "A")
				if got := b.says(0); !slices.Equal(got, []string{"answer/7 A"}) || b.said.Batch(0).Properties != nil {
					t.Errorf("published %q", got)
				}
			})
		})
	}
}

// What waits on disk keeps where its answer goes, and one that is dropped there is told of there.
func TestARequestOnDiskKeepsWhereItsAnswerGoes(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, devices(t, func(a *mapping.Answer) { a.Within = 10 * time.Second }))
	late := replyTo(ask(1, "x"), "back/1", []byte("late"))
	late.Properties = append(late.Properties, 0x02, 0, 0, 0, 1)
	b.send.Handle([]session.Message{late, replyTo(ask(2, "x"), "back/2", []byte("in time"))})
	b.spilled(t)
	time.Sleep(1100 * time.Millisecond)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "the request", func() bool { return len(n.From("iso0")) == 1 })
	fake.WaitFor(t, "that it waits for its answer", func() bool { n.LastSocket().Say("172.17.9.2:1010", "A"); return len(b.said.Published()) == 2 })
	for i, want := range []string{`back/1 {"reason":"expired","topic":"q/1","tries":0}` + "\x09\x00\x04late", "back/2 A\x09\x00\x07in time"} {
		m := b.said.Batch(i)
		if got := string(m.Topic) + " " + string(m.Payload) + string(m.Properties); got != want {
			t.Errorf("published %q, want %q", got, want)
		}
	}
}
