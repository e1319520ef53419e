package receive_test

import (
	"testing"
	"testing/synctest"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestAnEmptyDatagramPublishesNothingWhereTheRuleSaysSo(t *testing.T) {
	for _, name := range encodings {
		for _, drop := range []bool{false, true} {
			rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", func(r *mapping.ReceiveRule) {
				r.Retain, r.DropEmpty, r.OnChange, r.Encoding = true, drop, true, fake.Encoding(t, name)
			})}
			got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
				n.LastReceiver().Hear(fake.Device, "on", "", "on", "", "")
				synctest.Wait()
				filtered := b.Status().Receive[0].Filtered["empty"]
				if want := map[bool]uint64{true: 3}[drop && name != "json"]; filtered != want {
					t.Errorf("%s, drop %v: %d filtered as empty, want %d", name, drop, filtered, want)
				}
			})
			// What is left out is not the last value of on_change either.
			if want := map[bool]int{false: 4, true: 1}[drop && name != "json"]; len(got) != want {
				t.Errorf("%s, drop %v: published %q, want %d", name, drop, got, want)
			}
		}
	}
}
