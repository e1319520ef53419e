package send_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// asking gives a rule answers on answer/{id}, or on another topic.
func asking(t testing.TB, change ...func(*mapping.Answer)) func(*mapping.SendRule) {
	t.Helper()
	a := &mapping.Answer{Topic: answerTopic(t, "answer/{id}"), None: answerTopic(t, "none/{id}"), Within: 100 * time.Millisecond, Tries: 1}
	for _, c := range change {
		c(a)
	}
	return func(r *mapping.SendRule) { r.Answer = a }
}

func answerTopic(t testing.TB, text string) mapping.AnswerTopic {
	t.Helper()
	to, err := mapping.ParseAnswerTopic(text)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func matching(t testing.TB, text string) func(*mapping.Answer) {
	m, err := mapping.ParseMatch(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(a *mapping.Answer) { a.Match = m }
}

func on(t testing.TB, topic string) func(*mapping.Answer) {
	to := answerTopic(t, topic)
	return func(a *mapping.Answer) { a.Topic = to }
}

func tries(n uint8) func(*mapping.Answer) { return func(a *mapping.Answer) { a.Tries = n } }

// devices has a rule of the filter q/{id} ask hosts 172.17.9.{id}:1010.
func devices(t testing.TB, change ...func(*mapping.Answer)) mapping.SendRule {
	return fake.SendRule(t, "ask", "q/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.{id}:1010"), asking(t, change...))
}

func ask(id int, payload string) session.Message {
	return fake.Message(fmt.Sprint("q/", id), payload, 1)
}

// says waits until all that is under way is, and returns what was published since.
func (b *rig) says(from int) []string {
	synctest.Wait()
	return b.said.Published()[from:]
}

func TestAnAnswerIsPublishedOnItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t, on(t, "answer/{id}/{source}/{source_port}/{port}/{name}/{interface}/{u8@0}/{id+1}")))
		b.send.Handle([]session.Message{ask(7, "hello")})
		acks := b.acks()
		synctest.Wait()
		if got := left.lines(); !slices.Equal(got, []string{"172.17.9.7:1010 hello"}) || len(acks.list()) != 0 && !slices.Equal(acks.list(), []string{"hello"}) {
			t.Errorf("sent %q", got)
		}
		b.network.LastSocket().Say("172.17.9.7:1010", "AB\x00C")
		if diff := cmp.Diff([]string{"answer/7/172.17.9.7/1010/1010/ask/iso0/65/8 AB\x00C"}, b.says(0)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if m := b.said.Batch(0); m.QoS != 1 || m.Retain {
			t.Errorf("published with QoS %d, retain %v", m.QoS, m.Retain)
		}
		b.said.Acknowledge()
		time.Sleep(time.Minute)
		if s := b.Status().Rules[0]; s.Answers != 1 || s.Answered != 1 || s.Unanswered != 0 || s.Sent != 1 || len(b.says(0)) != 1 {
			t.Errorf("%+v, said %q", s, b.says(0))
		}
		b.settled("in the end", t)
	})
}

func TestARequestWithoutAnAnswerIsSentAgainAndThenToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t, tries(3)))
		begin := time.Now()
		b.send.Handle([]session.Message{ask(7, "hello")})
		time.Sleep(299 * time.Millisecond)
		if got := b.says(0); got != nil {
			t.Errorf("it is told too soon: %q", got)
		}
		time.Sleep(time.Millisecond)
		said := b.says(0)
		if len(said) != 1 || !strings.HasPrefix(said[0], "none/7 ") {
			t.Fatalf("said %q", said)
		}
		var told map[string]any
		if err := json.Unmarshal([]byte(said[0][len("none/7 "):]), &told); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]any{"reason": "unanswered", "topic": "q/7", "target": "172.17.9.7:1010", "tries": 3.0}, told); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		left.mu.Lock()
		defer left.mu.Unlock()
		if len(left.sent) != 3 || left.sent[1].at.Sub(begin) != 100*time.Millisecond || left.sent[2].at.Sub(begin) != 200*time.Millisecond {
			t.Errorf("sent %v", left.sent)
		}
		if s := b.Status().Rules[0]; s.Unanswered != 1 || s.Answered != 0 || s.Sent != 3 || s.Again != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// One request is out to a host at a time, whatever there is for others; and a late answer is taken
// for none of the next.
func TestOneRequestAtATimeIsOutToAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{ask(7, "1"), ask(7, "2"), ask(8, "3")})
		synctest.Wait()
		if got := left.lines(); !slices.Equal(got, []string{"172.17.9.7:1010 1", "172.17.9.8:1010 3"}) {
			t.Errorf("sent %q", got)
		}
		s := b.network.LastSocket()
		for _, from := range []string{"172.17.9.9:1010", "172.17.9.7:1011", "172.17.0.1:40000"} {
			s.Say(from, "forged")
		}
		s.Say("172.17.9.7:1010", "a1")
		synctest.Wait()
		if got := left.lines(); len(got) != 3 || got[2] != "172.17.9.7:1010 2" {
			t.Errorf("once it has answered, sent %q", got)
		}
		time.Sleep(150 * time.Millisecond) // 2 and 3 have no answer
		b.send.Handle([]session.Message{ask(7, "4")})
		s.Say("172.17.9.7:1010", "a2, late")
		if got := left.lines(); len(got) != 3 {
			t.Errorf("while a late answer may come, sent %q", got)
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := left.lines(); len(got) != 4 {
			t.Errorf("then sent %q", got)
		}
		s.Say("172.17.9.7:1010", "a4")
		var answers []string
		for _, line := range b.says(0) {
			if strings.HasPrefix(line, "answer") {
				answers = append(answers, line)
			}
		}
		if diff := cmp.Diff([]string{"answer/7 a1", "answer/7 a4"}, answers); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if s := b.Status().Rules[0]; s.Answered != 2 || s.Unanswered != 2 || s.Filtered["unasked"] != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// After a second try a second answer may come.
func TestTheSecondAnswerIsNotTakenForOneOfTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t, tries(2)))
		b.send.Handle([]session.Message{ask(7, "1"), ask(7, "2")})
		time.Sleep(110 * time.Millisecond)
		s := b.network.LastSocket()
		s.Say("172.17.9.7:1010", "a1")
		s.Say("172.17.9.7:1010", "a1")
		time.Sleep(80 * time.Millisecond)
		synctest.Wait()
		if got := left.lines(); len(got) != 2 {
			t.Errorf("sent %q", got)
		}
		time.Sleep(20 * time.Millisecond)
		s.Say("172.17.9.7:1010", "a2")
		if diff := cmp.Diff([]string{"answer/7 a1", "answer/7 a2"}, b.says(0)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestAGroupHasManyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "search", "q/{id}", "239.255.255.250:1900", asking(t, on(t, "found/{id}/{source}/{group}"))))
		b.send.Handle([]session.Message{ask(1, "M-SEARCH"), ask(2, "M-SEARCH")})
		synctest.Wait()
		s := b.network.LastSocket()
		s.Say("172.17.9.1:1900", "one")
		s.Say("172.17.9.2:49152", "two")
		s.Say("172.17.9.1:1900", "three")
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if got := left.lines(); len(got) != 1 {
			t.Errorf("sent %q", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if got := left.lines(); len(got) != 2 {
			t.Errorf("sent %q", got)
		}
		s.Say("172.17.9.3:1900", "four")
		time.Sleep(time.Second)
		s.Say("172.17.9.3:1900", "late")
		want := []string{"found/1/172.17.9.1/239.255.255.250 one", "found/1/172.17.9.2/239.255.255.250 two", "found/1/172.17.9.1/239.255.255.250 three", "found/2/172.17.9.3/239.255.255.250 four"}
		if diff := cmp.Diff(want, b.says(0)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if s := b.Status().Rules[0]; s.Answers != 4 || s.Answered != 2 || s.Unanswered != 0 || s.Filtered["unasked"] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// By their bytes many requests may be out to one host.
func TestAnswersAreMatchedByTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, fake.SendRule(t, "dns", "q/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.1:53"), asking(t, matching(t, "u16@1"))))
		b.send.Handle([]session.Message{ask(1, "-aa"), ask(2, "-bb"), ask(3, "-aa"), ask(4, "-a")})
		synctest.Wait()
		if got := left.lines(); len(got) == 0 || len(got) > 2 || got[0] != "172.17.9.1:53 -aa broadcast" {
			t.Errorf("sent %q", got)
		}
		time.Sleep(10 * time.Millisecond)
		s := b.network.LastSocket()
		s.Say("172.17.9.1:5353", "+bb")
		s.Say("172.17.9.2:53", "+aa")
		s.Say("172.17.9.1:53", "+cc")
		s.Say("172.17.9.1:53", "+")
		s.Say("172.17.9.1:53", "+aa")
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		s.Say("172.17.9.1:53", "!aa")
		want := []string{"answer/2 +bb", "answer/1 +aa", "answer/3 !aa"}
		got := slices.DeleteFunc(b.says(0), func(line string) bool { return strings.HasPrefix(line, "none/4 ") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if s := b.Status().Rules[0]; s.Answered != 3 || s.Filtered["unasked"] != 3 || s.Drops["bad_payload"] != 1 || len(b.says(0)) != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// A message whose request never leaves is told of, if the rule says where, with the reason.
func TestWhatIsDroppedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{ask(300, "x")})
		if got := b.says(0); len(got) != 1 || got[0] != `none/300 {"reason":"bad_host","topic":"q/300","tries":0}` {
			t.Errorf("said %q", got)
		}
	})
}

func TestWhatBecomesOfAnswersThatCannotBePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := devices(t, on(t, "answer/{text@0:3}"))
		b, _ := timing(t, rigOptions{}, rule)
		ids := 0
		answer := func(payload string) {
			ids++
			b.send.Handle([]session.Message{ask(ids, "x")})
			synctest.Wait()
			b.network.LastSocket().Say(fmt.Sprintf("172.17.9.%d:1010", ids), payload)
			synctest.Wait()
		}
		answer("a")
		answer("a/b")
		answer("abc")
		if got := b.says(0); len(got) != 1 || got[0] != "answer/abc abc" {
			t.Errorf("said %q", got)
		}
		b.said.Refuse(session.ErrRefused)
		b.network.LastSocket().Answer(5)
		b.send.Inspect()
		s := b.Status().Rules[0]
		if diff := cmp.Diff(map[string]uint64{"field": 1, "bad_topic": 1, "broker_refused": 1, "receive_buffer": 5}, s.Drops); diff != "" || s.Unclaimed != 0 || s.Answered != 3 {
			t.Errorf("%+v (-want +got):\n%s", s, diff)
		}
		if b.budget.Bytes() != 0 {
			t.Errorf("%d bytes are in use", b.budget.Bytes())
		}
	})
}

// What waits for the broker is bounded, and what finds no room counted.
func TestAnswersWaitForTheBrokerWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{QueueSize: 1 << 16}, fake.SendRule(t, "search", "q/{id}", "239.255.255.250:1900", asking(t)))
		b.send.Handle([]session.Message{ask(1, "M-SEARCH")})
		synctest.Wait()
		large := strings.Repeat("x", 1000)
		for range 200 {
			b.network.LastSocket().Say("172.17.9.1:1900", large)
		}
		said, s := len(b.says(0)), b.Status().Rules[0]
		if b.budget.Bytes() > 1<<16 || said == 0 || s.Drops["queue_full"]+uint64(said) != 200 || s.Answers != 200 {
			t.Errorf("%d bytes, %d published, %+v", b.budget.Bytes(), said, s)
		}
		b.said.Acknowledge()
		if b.budget.Bytes() != 0 {
			t.Errorf("%d bytes are in use", b.budget.Bytes())
		}
	})
}

func TestRequestsGoOnOverAReloadOrAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{ask(7, "1"), ask(8, "2"), ask(7, "3")})
		synctest.Wait()
		b.reload(t, []mapping.SendRule{devices(t, on(t, "new/{id}"))}, nil)
		b.network.LastSocket().Say("172.17.9.7:1010", "a")
		if got := b.says(0); !slices.Equal(got, []string{"new/7 a"}) {
			t.Errorf("over the reload: %q", got)
		}
		b.reload(t, []mapping.SendRule{devices(t, matching(t, "address"))}, nil)
		got := b.says(1)
		slices.Sort(got)
		if len(got) != 2 || !strings.HasPrefix(got[0], `none/7 {"reason":"removed"`) || !strings.HasPrefix(got[1], `none/8 {"reason":"removed"`) {
			t.Errorf("as it asks otherwise: %q", got)
		}
		b.send.Handle([]session.Message{ask(9, "4")})
		synctest.Wait()
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "other", "o", "239.1.1.1:5000")}, nil)
		if got := b.says(3); len(got) != 1 || !strings.HasPrefix(got[0], `none/9 {"reason":"removed"`) {
			t.Errorf("as it is gone: %q", got)
		}
	})
}

// A request that left when it was to be sent once is not sent again, as its payload is not kept.
func TestAReloadThatRaisesTriesSendsNothingEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{ask(7, "hello")})
		synctest.Wait()
		b.reload(t, []mapping.SendRule{devices(t, tries(3))}, nil)
		time.Sleep(time.Second)
		if got := left.since(time.Time{}); !slices.Equal(got, []string{"hello"}) {
			t.Errorf("sent %q", got)
		}
		if got := b.says(0); len(got) != 1 || !strings.HasPrefix(got[0], `none/7 {"reason":"unanswered"`) {
			t.Errorf("said %q", got)
		}
	})
}

func TestRequestsThatAreOutAtTheEndAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t))
		b.send.Handle([]session.Message{ask(7, "1"), ask(7, "2")})
		synctest.Wait()
		b.send.EndRequests(t.Context())
		time.Sleep(time.Second)
		got := b.says(0)
		if len(got) == 0 || !strings.HasPrefix(got[0], `none/7 {"reason":"stopped"`) || b.send.Asked() != 0 {
			t.Errorf("said %q, %d are out", got, b.send.Asked())
		}
	})
}

// A try that cannot leave is one that is lost: the verdict comes in time.
func TestARequestIsToldOfInTimeThoughItsInterfaceGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{}, devices(t, tries(3)))
		b.send.Handle([]session.Message{ask(7, "1")})
		synctest.Wait()
		b.network.Set()
		b.reconcile(t.Context())
		time.Sleep(300 * time.Millisecond)
		if got := b.says(0); len(got) != 1 || len(left.lines()) != 1 {
			t.Errorf("sent %q, said %q", left.lines(), got)
		}
		b.network.Set(fake.Iso0)
		b.reconcile(t.Context())
		b.send.Handle([]session.Message{ask(8, "2")})
		synctest.Wait()
		b.network.LastSocket().Say("172.17.9.8:1010", "a")
		if got := b.says(1); !slices.Equal(got, []string{"answer/8 a"}) {
			t.Errorf("once it is back: %q", got)
		}
	})
}

func TestWhenOverIsAboutRequestsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := devices(t)
		rule.WhenOver = mapping.OverDrop
		b, left := timing(t, rigOptions{}, rule)
		b.send.Handle([]session.Message{ask(7, "1")})
		synctest.Wait()
		b.send.Handle([]session.Message{ask(7, "2"), ask(8, "3")})
		synctest.Wait()
		if got := left.lines(); len(got) != 2 || b.Status().Rules[0].Drops["rate"] != 1 {
			t.Errorf("sent %q, drops %v", got, b.Status().Rules[0].Drops)
		}
	})
}
