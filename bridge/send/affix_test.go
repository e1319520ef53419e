package send_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func affixes(r *mapping.SendRule) {
	r.Prefix, _ = mapping.ParseAffix("<")
	r.Suffix, _ = mapping.ParseAffix("hex:3e0a")
}

func TestDatagramsHavePrefixAndSuffixAndWhatWouldBeEmptyIsLeftOut(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	drop := func(r *mapping.SendRule) { r.DropEmpty = true }
	hex := func(r *mapping.SendRule) { r.Payload, _ = mapping.ParsePayload("hex") }
	b := newRig(t, n, fake.Plenty,
		fake.SendRule(t, "all", "t", "239.1.1.1:5000", affixes),
		fake.SendRule(t, "some", "t", "239.1.1.2:5000", affixes, drop, hex))
	n.LastSocket().Reject = map[string]error{"<" + strings.Repeat("4", 65506) + ">\n": multicast.ErrTooLong}
	b.send.Handle([]session.Message{fake.Message("t", "41", 1), fake.Message("t", "", 1), fake.Message("t", " ", 1), fake.Message("t", strings.Repeat("4", 65506), 1)})
	want := []string{
		"239.1.1.1:5000 <41>\n", "239.1.1.1:5000 <>\n", "239.1.1.1:5000 < >\n",
		"239.1.1.2:5000 <A>\n", "239.1.1.2:5000 <" + strings.Repeat("D", 65506/2) + ">\n",
	}
	got := n.LastSocket().Took()
	slices.SortStableFunc(got, func(a, b string) int { // each group has its own order
		return strings.Compare(a[:len("239.1.1.1")], b[:len("239.1.1.1")])
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-want +got):\n%.500s", diff)
	}
	if s := b.Status(); s.Rules[0].Drops["oversize"] != 1 || s.Rules[1].Filtered["empty"] != 2 {
		t.Errorf("drops %v, filtered %v", s.Rules[0].Drops, s.Rules[1].Filtered)
	}
}

// On disk is the message: what is around it is put there once, as it leaves.
func TestWhatWaitsOnDiskGetsPrefixAndSuffixOnce(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", affixes))
	b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "", 1), {Topic: []byte("t"), QoS: 1}, fake.Message("t", "2", 1)})
	fake.WaitFor(t, "all on disk", func() bool { return b.Status().Spool.Messages == 4 })
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "all", func() bool { return len(n.From("iso0")) == 4 })
	want := []string{"239.1.1.1:5000 <1>\n", "239.1.1.1:5000 <>\n", "239.1.1.1:5000 <>\n", "239.1.1.1:5000 <2>\n"}
	if diff := cmp.Diff(want, n.From("iso0")); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}
