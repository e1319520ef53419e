package account

import (
	"sync"
	"sync/atomic"
)

// MemBudget is the memory that all that waits may take (queue.size). Half of it is
// for whoever comes first. A quarter is kept for the receive rules, and a quarter for the
// bindings, each the same part, of which each of a binding's rules has the same: so neither a
// flood of datagrams nor an interface that is away takes the room of an interface, or of a
// rule, that is well.
type MemBudget struct {
	max      int64
	received atomic.Int64 // of what came from the network the bytes, shifted by countBits, and how many messages: one operation counts both
	sent     atomic.Int64 // bytes of what waits in the bindings
	shared   atomic.Int64 // of these, what is beyond the part that is kept for each
	messages atomic.Int64 // of what waits in the bindings
	parts    atomic.Pointer[parts]

	borrowing sync.Mutex // held while a rule takes or gives back what is beyond its part
}

// parts say how the memory is shared out. They are never changed, only replaced.
type parts struct {
	number  uint16 // tells them from those before
	rule    int64  // bytes that are kept for each receive rule
	binding int64  // and for each binding
	common  int64  // bytes for whoever comes first
}

// NewMemBudget is one without parts. Divide makes them.
func NewMemBudget(bytes int64) *MemBudget {
	b := &MemBudget{max: bytes}
	b.parts.Store(&parts{common: bytes})
	return b
}

// Divide shares the memory out for a table. What a direction that has no rules
// would have is for whoever comes first.
func (b *MemBudget) Divide(bindings, rules int) {
	next := parts{number: b.parts.Load().number + 1}
	if rules > 0 {
		next.rule = b.max / 4 / int64(rules)
	}
	if bindings > 0 {
		next.binding = b.max / 4 / int64(bindings)
	}
	next.common = b.max - int64(rules)*next.rule - int64(bindings)*next.binding
	b.parts.Store(&next)
}

// Overhead is what a waiting message costs beside its payload.
const Overhead = 128

// Size is how many bytes may wait.
func (b *MemBudget) Size() int64 { return b.max }

// OfReceived is how many bytes wait that came from the network.
func (b *MemBudget) OfReceived() int64 { return b.received.Load() >> countBits }

// countBits are enough for as many messages as wait in 2 GiB. Where there are more they count as
// bytes, 32 at the most.
const countBits = 24

// Count is how many messages wait.
func (b *MemBudget) Count() int64 { return b.messages.Load() + b.received.Load()&(1<<countBits-1) }

// Bytes is all that waits.
func (b *MemBudget) Bytes() int64 { return b.OfReceived() + b.sent.Load() }

// Kept is how many bytes are kept for each receive rule, and for each binding.
func (b *MemBudget) Kept() (rule, binding int64) {
	p := b.parts.Load()
	return p.rule, p.binding
}

// crowded reports whether more is shared than there is for whoever comes first.
func (b *MemBudget) crowded() bool { return b.shared.Load() > b.parts.Load().common }

// BindingBudget is what one binding has of the budget. The binding's mu guards what changes
// it; anybody may ask.
type BindingBudget struct {
	of    *MemBudget
	bytes atomic.Int64
	rules int64 // that share the part that is kept for the binding
}

// A Share is what one rule has of a binding's budget. The binding's mu guards it.
type Share struct {
	bytes  int64
	beyond int64 // of these, what is not of the part that is kept for the rule
}

// Used is how many bytes wait of the rule.
func (s *Share) Used() int64 { return s.bytes }

// ForBinding is the budget of one more binding.
func (b *MemBudget) ForBinding() *BindingBudget { return &BindingBudget{of: b, rules: 1} }

// Divide shares the binding's part out among so many rules.
func (b *BindingBudget) Divide(rules int) { b.rules = int64(max(rules, 1)) }

// Used is how many bytes wait for the binding.
func (b *BindingBudget) Used() int64 { return b.bytes.Load() }

// AllUsed is how many bytes wait for everybody.
func (b *BindingBudget) AllUsed() int64 { return b.of.Bytes() }

// Acquire takes room for a datagram of a rule.
func (b *BindingBudget) Acquire(of *Share, payload int) bool {
	if beyond := b.Transfer(of, payload); beyond > 0 && b.of.crowded() {
		b.Release(of, payload)
		return false
	}
	return true
}

// Transfer takes room that another rule or binding had, whether or not there is any, and
// returns how many bytes of it are shared.
func (b *BindingBudget) Transfer(of *Share, payload int) (beyond int64) {
	n := int64(payload + Overhead)
	kept := b.of.parts.Load().binding/b.rules - (of.bytes - of.beyond)
	beyond = n - min(max(kept, 0), n)
	of.bytes += n
	of.beyond += beyond
	b.bytes.Add(n)
	b.of.shared.Add(beyond)
	b.of.sent.Add(n)
	b.of.messages.Add(1)
	return beyond
}

// Release returns the room of a datagram; what is shared goes first.
func (b *BindingBudget) Release(of *Share, payload int) {
	n := int64(payload + Overhead)
	beyond := min(of.beyond, n)
	of.bytes -= n
	of.beyond -= beyond
	b.bytes.Add(-n)
	b.of.shared.Add(-beyond)
	b.of.sent.Add(-n)
	b.of.messages.Add(-1)
}

// Fits reports whether there could ever be room for a datagram.
func (b *BindingBudget) Fits(payload int) bool {
	p := b.of.parts.Load()
	return int64(payload+Overhead) <= p.binding/b.rules+p.common
}

// HasRoom reports whether there is room for more than a few datagrams.
func (b *BindingBudget) HasRoom() bool {
	p := b.of.parts.Load()
	return b.bytes.Load() <= p.binding/2 || b.of.shared.Load() < p.common/8
}
