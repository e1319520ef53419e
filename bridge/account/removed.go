package account

import (
	"iter"
	"slices"
	"sync"
)

// MaxRemoved bounds the rules that a reload has removed and whose losses still show under
// their names. Those of the ones removed before are counted together, under none.
const MaxRemoved = 1000

// Removed are the accounts of rules that a reload has removed: what was lost of them shows
// until the end of the process, and a rule that comes back goes on with its own. T is what
// has become of a rule's messages; its Counters are the account. The zero Removed is ready.
type Removed[T any, P totals[T]] struct {
	Follow Follower // of the accounts that it makes itself

	mu    sync.Mutex
	by    map[string]P
	names []string // the one removed longest ago first
	rest  Counters
}

type totals[T any] interface {
	*T
	Account() *Counters
}

// Account is c, for what has it embedded.
func (c *Counters) Account() *Counters { return c }

// Replace is called when a reload puts rules to work in the place of others: it takes in the
// accounts of those that are gone, and lets go of those that are back. of says what a rule is
// called and what its account is.
func Replace[R, T any, P totals[T]](r *Removed[T, P], before, next []R, of func(R) (name string, account P)) {
	if slices.EqualFunc(next, before, func(a, b R) bool {
		is, _ := of(a)
		was, _ := of(b)
		return is == was
	}) {
		return
	}
	is := make(map[string]bool, len(next))
	for _, rule := range next {
		name, _ := of(rule)
		is[name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = slices.DeleteFunc(r.names, func(name string) bool {
		if is[name] {
			delete(r.by, name)
		}
		return is[name]
	})
	for _, rule := range before {
		if name, account := of(rule); !is[name] {
			r.add(name, account)
		}
	}
}

// add takes in one more. Callers hold mu.
func (r *Removed[T, P]) add(name string, account P) {
	if r.by == nil {
		r.by = make(map[string]P)
	}
	r.by[name] = account
	r.names = append(r.names, name)
	if len(r.names) > MaxRemoved {
		oldest := r.by[r.names[0]].Account()
		oldest.total.Store(&r.rest)
		for why, n := range oldest.All() {
			r.rest.Count(why, n)
		}
		delete(r.by, r.names[0])
		r.names = slices.Delete(r.names, 0, 1)
	}
}

// Find is the account of a rule that was removed; nil: there is none.
func (r *Removed[T, P]) Find(name string) P {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[name]
}

// Losses is where it is counted what is lost of a rule that is not there: it was removed, or
// was there in an earlier process.
func (r *Removed[T, P]) Losses(name string) *Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by[name] == nil {
		r.add(name, new(T))
		r.by[name].Account().Follow = r.Follow
	}
	return r.by[name].Account()
}

// All are the accounts, by the names of the rules; "" is that of all others.
func (r *Removed[T, P]) All() iter.Seq2[string, *Counters] {
	return func(yield func(string, *Counters) bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !yield("", &r.rest) {
			return
		}
		for _, name := range r.names {
			if !yield(name, r.by[name].Account()) {
				return
			}
		}
	}
}
