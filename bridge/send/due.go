package send

// dueHeap is a binary heap of items by the time when they are due, the earliest in front. push adds
// an item, fix restores the order after its time has changed, and remove removes it from any place.
// Items due at the same time have no order.
type dueHeap[T dueItem[T]] []T

// dueItem is an item of a dueHeap: it knows its index there.
type dueItem[T any] interface {
	before(T) bool
	heapIndex() *int
}

// heapPlace is where something is in its dueHeap. What a dueHeap holds embeds it.
type heapPlace struct{ index int }

func (p *heapPlace) heapIndex() *int { return &p.index }

func (h *dueHeap[T]) push(x T) {
	*h = append(*h, x)
	h.up(len(*h)-1, x)
}

func (h *dueHeap[T]) remove(x T) {
	last := len(*h) - 1
	moved := (*h)[last]
	clear((*h)[last:]) // keeps nothing alive
	*h = (*h)[:last]
	if at := *x.heapIndex(); at < last {
		h.settle(at, moved)
	}
}

func (h *dueHeap[T]) fix(x T) { h.settle(*x.heapIndex(), x) }

// settle puts x where it belongs, starting from a free index.
func (h *dueHeap[T]) settle(at int, x T) { h.up(h.down(at, x), x) }

// down moves the free index down, below all items that are before x.
func (h *dueHeap[T]) down(at int, x T) int {
	all := *h
	for {
		child := 2*at + 1
		if next := child + 1; next < len(all) && all[next].before(all[child]) {
			child = next
		}
		if child >= len(all) || !all[child].before(x) {
			return at
		}
		h.set(at, all[child])
		at = child
	}
}

// up moves the free index up, above all items that x is before, and puts x there.
func (h *dueHeap[T]) up(at int, x T) {
	for at > 0 {
		parent := (at - 1) / 2
		if !x.before((*h)[parent]) {
			break
		}
		h.set(at, (*h)[parent])
		at = parent
	}
	h.set(at, x)
}

func (h *dueHeap[T]) set(at int, x T) {
	(*h)[at] = x
	*x.heapIndex() = at
}
