package account_test

import (
	"testing"

	"topicast/bridge/account"
)

// Whatever rules of bindings take and give back, also from others and in other parts, adds up.
func TestTheRoomOfAllAddsUp(t *testing.T) {
	of := account.NewMemBudget(10_000)
	of.Divide(2, 2)
	bindings := []*account.BindingBudget{of.ForBinding(), of.ForBinding()}
	type rule struct {
		of *account.BindingBudget
		account.Share
	}
	rules := []*rule{{of: bindings[0]}, {of: bindings[0]}, {of: bindings[1]}}
	var held []*rule
	for i := range 3000 {
		switch r := rules[i%3]; i * 7 % 5 {
		case 0, 1, 2:
			if r.of.Acquire(&r.Share, 72) {
				held = append(held, r)
			}
		case 3:
			if len(held) > 0 {
				held[0].of.Release(&held[0].Share, 72)
				held = held[1:]
			}
		case 4:
			of.Divide(1+i%7, i%3)
			bindings[0].Divide(i % 4)
		}
		if got := of.Bytes(); got != int64(len(held)*200) {
			t.Fatalf("step %d: %d bytes for %d datagrams", i, got, len(held))
		}
	}
	for _, r := range held {
		r.of.Release(&r.Share, 72)
	}
	if of.Bytes() != 0 || of.Shared() != 0 || of.Count() != 0 {
		t.Errorf("left over: %d bytes, %d shared, %d messages", of.Bytes(), of.Shared(), of.Count())
	}
	for _, r := range rules {
		if r.of.Used() != 0 || r.Share != (account.Share{}) {
			t.Errorf("left over: %d bytes of a binding, %+v of a rule", r.of.Used(), r.Share)
		}
	}
}
