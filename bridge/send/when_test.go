package send_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func when(t testing.TB, text string) func(*mapping.SendRule) {
	t.Helper()
	c, err := mapping.ParseMessageCondition(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *mapping.SendRule) { r.When = c }
}

func TestOnlyMessagesThatSatisfyTheConditionAreSent(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "alarms", "a/{id}", "239.1.1.1:5000", when(t, `json:/kind == "alarm"`)),
		fake.SendRule(t, "upper", "a/{id}", "239.1.1.2:5000", when(t, "id > 7 && size > 3")),
		fake.SendRule(t, "all", "a/#", "239.1.1.3:5000"))
	batch := []session.Message{
		fake.Message("a/7", `{"kind":"alarm"}`, 1),
		fake.Message("a/8", `{"kind":"note"}`, 1),
		fake.Message("a/8", "xyz", 1),
		fake.Message("a/x", `{"kind":"alarm","kind":"note"}`, 1),
		fake.Message("a/9", `{"kind":"alarm"}`, 0),
	}
	b.send.Handle(batch)

	want := []string{
		`239.1.1.1:5000 {"kind":"alarm"}`, `239.1.1.1:5000 {"kind":"alarm"}`,
		`239.1.1.3:5000 {"kind":"alarm"}`, `239.1.1.3:5000 {"kind":"note"}`, "239.1.1.3:5000 xyz", `239.1.1.3:5000 {"kind":"alarm","kind":"note"}`, `239.1.1.3:5000 {"kind":"alarm"}`,
		`239.1.1.2:5000 {"kind":"note"}`, `239.1.1.2:5000 {"kind":"alarm"}`,
	}
	if diff := cmp.Diff(want, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for i, m := range batch {
		if m.Hold {
			t.Errorf("message %d is held", i)
		}
	}
	for i, want := range []uint64{3, 3, 0} {
		s := b.Status().Rules[i]
		if s.Filtered["when"] != want || len(s.Drops) > 0 || s.Received != 5 {
			t.Errorf("%s: %d filtered, want %d; drops %v, %d received", s.Name, s.Filtered["when"], want, s.Drops, s.Received)
		}
	}
}

// What is not for the rule is neither sent, nor what was sent last, nor lost for another reason.
func TestTheConditionComesFirst(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	hex := func(r *mapping.SendRule) { r.Payload, _ = mapping.ParsePayload("hex") }
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", when(t, `payload begins "0"`), hex))
	retained := fake.Message("t/1", "01", 1)
	retained.Retain = true
	oversize := fake.Message("t/1", "", 1)
	oversize.Oversize, oversize.Size = true, 1<<20
	b.send.Handle([]session.Message{retained, fake.Message("t/1", "xx", 1), fake.Message("t/300", "41", 1), oversize})
	b.send.Handle([]session.Message{retained, fake.Message("t/1", "0x", 1)})

	if diff := cmp.Diff([]string{"239.1.1.1:5000 \x01"}, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s := b.Status().Rules[0]
	if diff := cmp.Diff(map[string]uint64{"when": 2, "retained": 1}, s.Filtered); diff != "" {
		t.Errorf("filtered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"bad_payload": 1, "oversize": 1}, s.Drops); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}
