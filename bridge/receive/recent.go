package receive

// recent is what a rule with merge has heard within its time: which contents, how often, and
// by which legs. What it does for one datagram does not depend on how much it knows, as
// digests are spread by a key that nobody else has.
type recent struct {
	heard      []occurrence // a ring, in the order of time; the length is a power of two
	head, tail uint32       // places in it, which only grow
	contents   []content    // by digest, with linear probing; twice as many as heard
}

// occurrence is one datagram that was published: the first of those that each leg brings.
type occurrence struct {
	at     int64 // moment
	digest uint64
}

// content is one payload. Equal datagrams are one as good as another, so that numbers do for
// them: the n-th of one leg is the n-th of each other.
type content struct {
	digest uint64
	last   int64           // moment of the last occurrence
	n      uint16          // occurrences that are remembered; 0: the place is empty
	by     [maxLegs]uint16 // how many of these, from the oldest on, each leg has brought
}

const (
	fewRecent = 16
	// maxRecent bounds what one rule remembers, so that numbers of a content fit 16 bits.
	maxRecent = 1 << 15
	// recentCost is what an occurrence takes, with the two places for its content.
	recentCost = 16 + 2*56
)

func (w *recent) len() int { return int(w.tail - w.head) }

func (w *recent) full() bool { return w.len() == len(w.heard) }

func (w *recent) oldest() occurrence { return w.heard[w.head&uint32(len(w.heard)-1)] }

// find finds a content, or the empty place for it.
func (w *recent) find(digest uint64) *content {
	mask := uint64(len(w.contents) - 1)
	for i := digest & mask; ; i = (i + 1) & mask {
		if c := &w.contents[i]; c.n == 0 || c.digest == digest {
			return c
		}
	}
}

// add remembers an occurrence of a content, which it found, and for which there is room.
func (w *recent) add(c *content, digest uint64, at int64) {
	w.heard[w.tail&uint32(len(w.heard)-1)] = occurrence{at, digest}
	w.tail++
	c.digest, c.last = digest, at
	c.n++
}

// forget forgets the oldest occurrence. Callers have told the legs before.
func (w *recent) forget(c *content) {
	w.head++
	if c.n--; c.n == 0 {
		w.remove(c.digest)
	}
}

// remove closes the gap that a content leaves, so that those behind it are found.
func (w *recent) remove(digest uint64) {
	mask := uint64(len(w.contents) - 1)
	gap := digest & mask
	for w.contents[gap].digest != digest {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; w.contents[i].n > 0; i = (i + 1) & mask {
		if home := w.contents[i].digest & mask; (i-home)&mask >= (i-gap)&mask {
			w.contents[gap] = w.contents[i]
			gap = i
		}
	}
	w.contents[gap] = content{}
}

// resize makes room for n occurrences, no fewer than there are; 0 takes all room away.
func (w *recent) resize(n int) {
	was := *w
	*w = recent{}
	if n == 0 {
		return
	}
	w.heard, w.contents = make([]occurrence, n), make([]content, 2*n)
	for i := was.head; i != was.tail; i++ {
		w.heard[w.tail&uint32(n-1)] = was.heard[i&uint32(len(was.heard)-1)]
		w.tail++
	}
	for i := range was.contents {
		if c := &was.contents[i]; c.n > 0 {
			*w.find(c.digest) = *c
		}
	}
}
