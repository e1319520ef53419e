package bridge

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// What comes back is published, and shows; two rules have two sockets, so that none has the answer
// of another.
func TestAnswersShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "ask", "q/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.{id}:1010"), fake.Answered(t, "answer/{id}")),
			fake.SendRule(t, "search", "s", "239.1.1.1:5000", fake.Answered(t, "found/{source}")))
		if sockets, _, _ := n.Opened(); sockets != 2 {
			t.Errorf("%d sockets", sockets)
		}
		b.send.Handle([]session.Message{fake.Message("q/7", "x", 1), fake.Message("q/8", "x", 1), fake.Message("s", "x", 1)})
		synctest.Wait()
		for _, s := range n.Sockets {
			s.Say("172.17.9.7:1010", "a")
		}
		synctest.Wait()
		got := publisherOf(b).Published()
		slices.Sort(got)
		if !slices.Equal(got, []string{"answer/7 a", "found/172.17.9.7 a"}) {
			t.Errorf("published %q", got)
		}
		time.Sleep(time.Second)
		s := b.Status().Rules[0]
		if s.Answers != 1 || s.Answered != 1 || s.Unanswered != 1 {
			t.Errorf("%+v", s)
		}
		text := b.exposed(t)
		for _, line := range []string{`topicast_answers_total{rule="ask"} 1`, `topicast_requests_total{rule="ask",outcome="answered"} 1`, `topicast_requests_total{rule="ask",outcome="unanswered"} 1`} {
			if !strings.Contains(text, line) {
				t.Errorf("no %s", line)
			}
		}
	})
}
