package account_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"topicast/bridge/account"
)

const room = 64 // payload; with the overhead 192 bytes

// fill takes room for a rule until there is none, and says how often that went well.
func fill(r *account.RuleBudget) (n int) {
	for r.Acquire(room) {
		n++
	}
	return n
}

// Whatever one rule takes, and a binding, each other one finds its part.
func TestEachRuleFindsThePartThatIsKeptForIt(t *testing.T) {
	const each = room + account.Overhead
	of := account.NewMemBudget(1600 * each)
	of.Divide(1, 4)
	chatty, binding := of.ForRule(), of.ForBinding()
	binding.Divide(4)
	if got := fill(chatty); got != 900 {
		t.Errorf("the first one finds room for %d, want its 100 and the 800 for whoever comes first", got)
	}
	for rule := range 4 {
		var of account.Share
		for n := range 100 {
			if !binding.Acquire(&of, room) {
				t.Fatalf("rule %d of the binding finds room for %d, want 100", rule, n)
			}
		}
		if binding.Acquire(&of, room) {
			t.Error("more is taken than there is")
		}
	}
	others := []*account.RuleBudget{of.ForRule(), of.ForRule(), of.ForRule()}
	for _, r := range others {
		if got := fill(r); got != 100 {
			t.Errorf("another rule finds room for %d, want 100", got)
		}
	}
	chatty.Release(10, 10*room)
	if got := fill(others[0]); got != 10 {
		t.Errorf("a rule finds room for %d, want the 10 that were given back", got)
	}
}

// What can never find room is not left to the broker to repeat; and it is asked to repeat what
// can, as soon as others do not take all.
func TestABindingKnowsWhatCanFindRoom(t *testing.T) {
	of := account.NewMemBudget(16_000) // 8,000 for whoever comes first, 4,000 for the bindings
	of.Divide(2, 1)
	binding, other := of.ForBinding(), of.ForBinding()
	binding.Divide(4) // 500 for each of its rules
	if fits, tooMuch := 8500-account.Overhead, 8501-account.Overhead; !binding.Fits(fits) || binding.Fits(tooMuch) {
		t.Errorf("what has %d bytes fits: %v; one more: %v", fits, binding.Fits(fits), binding.Fits(tooMuch))
	}
	var rule, others account.Share
	if !binding.HasRoom() {
		t.Error("there is none in the beginning")
	}
	for other.Acquire(&others, room) {
	}
	if !binding.HasRoom() {
		t.Error("there is none though the binding has its part")
	}
	for range 6 {
		binding.Transfer(&rule, room)
	}
	if binding.HasRoom() {
		t.Error("there is room where others have all, and this one half of its part")
	}
	for others.Used() > 0 {
		other.Release(&others, room)
	}
	if !binding.HasRoom() {
		t.Error("there is none though nobody else has anything")
	}
}

// A reload changes the parts while messages come and go; in the end all is given back.
func TestTheRoomOfRulesAddsUpWhateverBecomesOfTheParts(t *testing.T) {
	of := account.NewMemBudget(100 << 10)
	of.Divide(1, 2)
	rules := []*account.RuleBudget{of.ForRule(), of.ForRule(), of.ForRule()}
	var all sync.WaitGroup
	for _, r := range rules {
		for range 2 {
			all.Go(func() {
				for range 200 {
					held := 0
					for range 200 {
						if r.Acquire(room) {
							held++
						}
					}
					r.Release(held, held*room)
				}
			})
		}
	}
	all.Go(func() {
		for i := range 2000 {
			of.Divide(1+i%3, i%7)
		}
	})
	all.Wait()
	of.Divide(0, 3)
	for _, r := range rules {
		if r.Used() != 0 {
			t.Errorf("%d bytes are left", r.Used())
		}
		r.Acquire(room) // by the parts of now
		r.Release(1, room)
	}
	if of.Bytes() != 0 || of.Count() != 0 {
		t.Errorf("%d bytes of %d messages are left", of.Bytes(), of.Count())
	}
	want := int64(100<<10) / (room + account.Overhead)
	if got := fill(rules[0]) + fill(rules[1]) + fill(rules[2]); int64(got) < want-3 || int64(got) > want {
		t.Errorf("there is room for %d, want %d", got, want)
	}
}

// A reload may leave less for whoever comes first than is taken of it already. That costs no
// rule what is kept for it.
func TestAReloadThatLeavesLessInCommonLeavesEachRuleItsPart(t *testing.T) {
	const each = room + account.Overhead
	of := account.NewMemBudget(1600 * each)
	of.Divide(0, 1) // 400 for the rule, 1,200 for whoever comes first
	chatty, quiet := of.ForRule(), of.ForRule()
	fill(chatty)
	of.Divide(1, 4) // 100 for each rule, 800 for whoever comes first
	if got := fill(quiet); got != 100 {
		t.Errorf("a rule finds room for %d, want the 100 that are kept for it", got)
	}
}

// What a rule takes beyond its part adds up though others of its messages come and go within
// the part at the same moment.
func TestTheRoomThatIsSharedAddsUpBesideWhatIsNot(t *testing.T) {
	of := account.NewMemBudget(64 << 10)
	of.Divide(0, 1) // 16 KiB for the rule
	r := of.ForRule()
	var all sync.WaitGroup
	var done atomic.Bool
	all.Go(func() {
		for !done.Load() {
			if r.Acquire(room) {
				r.Release(1, room)
			}
		}
	})
	for range 100_000 {
		if r.Acquire(20 << 10) { // which is more than the part
			r.Release(1, 20<<10)
		}
	}
	done.Store(true)
	all.Wait()
	if r.Used() != 0 || of.Shared() != 0 {
		t.Errorf("%d bytes are left, %d shared", r.Used(), of.Shared())
	}
}

func BenchmarkRuleBudget(b *testing.B) {
	of := account.NewMemBudget(64 << 20)
	of.Divide(1, 1)
	r := of.ForRule()
	for b.Loop() {
		r.Acquire(room)
		r.Release(1, room)
	}
}
