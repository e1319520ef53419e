package account

import "testing"

// Whatever bindings take and give back, also from others and in other parts, adds up.
func TestTheRoomOfAllAddsUp(t *testing.T) {
	of := NewMemBudget(10_000)
	of.Divide(2, 2)
	a, b := BindingBudget{of: of}, BindingBudget{of: of}
	var held []*BindingBudget
	for i := range 2000 {
		switch s := []*BindingBudget{&a, &b}[i%2]; i * 7 % 5 {
		case 0, 1, 2:
			if s.Acquire(72) {
				held = append(held, s)
			}
		case 3:
			if len(held) > 0 {
				held[0].Release(72)
				held = held[1:]
			}
		case 4:
			of.Divide(1+i%7, i%3)
		}
		if got := of.Bytes(); got != int64(len(held)*200) {
			t.Fatalf("step %d: %d bytes for %d datagrams", i, got, len(held))
		}
	}
	for _, s := range held {
		s.Release(72)
	}
	if of.Bytes() != 0 || of.shared.Load() != 0 || of.messages.Load() != 0 || a.Used() != 0 || b.beyond != 0 {
		t.Errorf("left over: %d bytes, %d shared, %d messages", of.Bytes(), of.shared.Load(), of.messages.Load())
	}
}
