package account

import "sync/atomic"

// RuleBudget is what one receive rule has of the memory: the part that is kept for each
// rule, and beyond it what all share. Any goroutine may use it. As long as the rule stays
// within its part, which it does while the broker takes what comes, that costs no lock.
type RuleBudget struct {
	of    *MemBudget
	state atomic.Uint64 // what the rule has, in bytes, shifted by numberBits; and the number of the parts that it is accounted by
	by    *parts        // those; under the memory's borrowing
}

const numberBits = 16

// ForRule is the budget of one more receive rule.
func (b *MemBudget) ForRule() *RuleBudget {
	r := &RuleBudget{of: b, by: b.parts.Load()}
	r.state.Store(uint64(r.by.number))
	return r
}

// Used is how many bytes wait for the rule.
func (r *RuleBudget) Used() int64 { return int64(r.state.Load()) >> numberBits }

// Left is how many bytes more the rule may have, as far as it is known.
func (r *RuleBudget) Left() int64 {
	p := r.of.parts.Load()
	return max(p.rule-r.Used(), 0) + max(p.common-r.of.shared.Load(), 0)
}

// Acquire takes room for a message.
func (r *RuleBudget) Acquire(payload int) bool {
	n := int64(payload + Overhead)
	if !r.move(n) {
		return false
	}
	r.of.received.Add(n<<countBits + 1)
	return true
}

// Release returns the room of n messages, whose payloads are so many bytes in all.
func (r *RuleBudget) Release(n, payload int) {
	bytes := int64(payload + n*Overhead)
	r.move(-bytes)
	r.of.received.Add(-(bytes<<countBits + int64(n)))
}

// move changes what the rule has; more only if there is room for it.
func (r *RuleBudget) move(by int64) bool {
	for {
		p, was := r.of.parts.Load(), r.state.Load()
		used := int64(was) >> numberBits
		if uint16(was) != p.number || max(used, used+by) > p.rule {
			return r.borrow(by)
		}
		if r.state.CompareAndSwap(was, was+uint64(by<<numberBits)) {
			return true
		}
	}
}

// borrow is move where the rule has, or is to have, more than its part, or the parts are
// others than they were.
func (r *RuleBudget) borrow(by int64) bool {
	of := r.of
	of.borrowing.Lock()
	defer of.borrowing.Unlock()
	p := of.parts.Load()
	for {
		was := r.state.Load() // others change it meanwhile, within the part
		used := int64(was) >> numberBits
		beyond := max(used-r.by.rule, 0)
		more := max(used+by-p.rule, 0) - beyond
		if by > 0 && of.shared.Add(more) > p.common && more > 0 {
			of.shared.Add(-more)
			return false
		}
		if r.state.CompareAndSwap(was, uint64(used+by)<<numberBits|uint64(p.number)) {
			if by <= 0 {
				of.shared.Add(more)
			}
			r.by = p
			return true
		}
		if by > 0 {
			of.shared.Add(-more)
		}
	}
}
