package receive_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func when(t testing.TB, text string) func(*mapping.ReceiveRule) {
	t.Helper()
	c, err := mapping.ParseDatagramCondition(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *mapping.ReceiveRule) { r.When = c }
}

// Two kinds of datagrams of one sender, each by a rule of its own: what is not of a kind
// neither supersedes nor changes anything.
func TestOnlyDatagramsThatSatisfyTheConditionArePublished(t *testing.T) {
	onChange := func(r *mapping.ReceiveRule) { r.OnChange = true }
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "readings", "239.1.1.1:5000", "reading", when(t, "u16@0 == 0x4142"), onChange),
		fake.ReceiveRule(t, "others", "239.1.1.1:5000", "other", when(t, `!(u16@0 == 0x4142) && source == "172.17.0.9"`)),
		fake.ReceiveRule(t, "all", "239.1.1.1:5000", "all"),
	}
	var status rigStatus
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "AB1", "CD1", "AB1", "A", "AB2")
		b.receive.StopReceivers(&b.readers)
		status = b.Status()
	})
	want := []string{
		"reading AB1", "all AB1", "other CD1", "all CD1", "all AB1", "all A", "reading AB2", "all AB2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	for i, want := range []map[string]uint64{{"when": 2, "unchanged": 1}, {"when": 4}, nil} {
		if diff := cmp.Diff(want, status.Receive[i].Filtered); diff != "" {
			t.Errorf("%s filtered (-want +got):\n%s", status.Receive[i].Name, diff)
		}
	}
}
