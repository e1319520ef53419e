package send_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// Who watches sees where an answer is published beside the request that it is for, that it is told
// that there is none, and what is not published with its sender.
func TestThoseWhoWatchAreToldOfAnswersAndOfNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t, on(t, "answer/{id}/{json:/a}")))
		w, err := b.watched.Tap.Watch(tap.Filter{Payload: 64})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		b.send.Handle([]session.Message{ask(7, "x"), ask(8, "x"), ask(9, "x")})
		synctest.Wait()
		s := b.network.LastSocket()
		s.Say("172.17.9.7:1010", `{"a":1}`)
		synctest.Wait()
		s.Say("172.17.9.7:1010", "again")
		synctest.Wait()
		s.Say("172.17.9.8:1010", "no JSON")
		synctest.Wait()
		time.Sleep(time.Second)
		var got []string
		events, _, _ := w.Next(t.Context())
		for _, e := range events {
			if e.Direction == tap.Answer {
				got = append(got, fmt.Sprintf("%s %s %s to %t from %s on %s: %s %t %s", e.Decision, e.Topic, e.AnswerTopic, e.To == netip.MustParseAddrPort("172.17.9.9:1010"), e.Source, e.Interface, e.Reason, e.Detail != "", e.Payload))
			}
		}
		want := []string{
			`published q/7 answer/7/1 to false from 172.17.9.7:1010 on iso0:  false {"a":1}`,
			`filtered   to false from 172.17.9.7:1010 on iso0: unasked false again`,
			`dropped q/8  to false from 172.17.9.8:1010 on iso0: field true no JSON`,
			`published q/9 none/9 to true from invalid AddrPort on iso0:  true {"reason":"unanswered","topic":"q/9","target":"172.17.9.9:1010",`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if said := b.says(0); !slices.ContainsFunc(said, func(s string) bool { return s == `answer/7/1 {"a":1}` }) || len(said) != 2 {
			t.Errorf("said %q", said)
		}
		if s := b.Status().Rules[0]; s.Filtered["unasked"] != 1 || s.Drops["field"] != 1 || s.Unanswered != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Where it is not published that there is no answer, nobody is told that it were.
func TestNobodyIsToldOfWhatIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t, func(a *mapping.Answer) { a.None = mapping.AnswerTopic{} }))
		w, err := b.watched.Tap.Watch(tap.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		b.send.Handle([]session.Message{ask(7, "x")})
		time.Sleep(time.Second)
		for events, _, _ := w.Next(t.Context()); len(events) > 0; events = events[1:] {
			if events[0].Direction == tap.Answer {
				t.Errorf("%+v", events[0])
			}
		}
	})
}
