package spill

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/spool"
)

// A piece is one queue of the spool, by its name there. What a rule has on disk is one piece,
// and more where it was another rule, or process, that wrote the first of it.
type piece struct {
	*spool.Queue
	label
	reading sync.Mutex // held from reading the front until what was passed on is removed

	// Changed under the Queues' mu.
	of    atomic.Pointer[Queue] // whose it is; nil: nobody's
	owner Rule                  // the rule that had it last, by name and identity: at first as its label says
}

// A label is what the name of a piece says: of which rule it was when it was made, and what
// it is for. A version before had no identity there, and for what is to be sent no kind.
type label struct {
	rule, kind string
	is         uint64
	unique     string // where more than one would be the same
}

const (
	separator    = "\x00" // no rule's name has it
	identityBase = 36
)

func (l label) String() string {
	fields := []string{l.rule, l.kind, strconv.FormatUint(l.is, identityBase), l.unique}
	return strings.TrimSuffix(strings.Join(fields, separator), separator)
}

func parseLabel(name string) (l label) {
	var is string
	l.rule, name, _ = strings.Cut(name, separator)
	l.kind, name, _ = strings.Cut(name, separator)
	is, l.unique, _ = strings.Cut(name, separator)
	l.is, _ = strconv.ParseUint(is, identityBase, 64)
	l.kind = cmp.Or(l.kind, Sent)
	return l
}

// came is when the first message of a piece came, for the order of the pieces. One that is
// just being read is the first of all.
func (p *piece) came(r *Rule) time.Duration {
	if !p.reading.TryLock() {
		return math.MinInt64
	}
	defer p.reading.Unlock()
	var first [1]spool.Record
	n, lost := p.Front(first[:], 0)
	r.Losses.CountSpoolLosses(r.Name, lost.Expired, lost.Damaged)
	if n == 0 {
		return math.MaxInt64 // it is only on its way to the disk
	}
	return first[0].Came
}
