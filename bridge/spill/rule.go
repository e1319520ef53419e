package spill

import (
	"slices"
	"time"

	"topicast/bridge/account"
)

// A Rule is what has to be known of a rule whose messages are kept.
type Rule struct {
	Name   string
	Common string            // what the rules are called in the configuration of which it is one, by one of their interfaces
	Is     uint64            // what it does, whatever it is called: an Identity; 0: not known
	MaxAge time.Duration     // what has waited longer is dropped; 0: no limit
	Latest bool              // only the latest message of each topic is wanted
	Losses *account.Counters // where it is counted what the disk loses
}

// Identity is short for what a rule is: the same in each process.
func Identity(parts ...string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, part := range parts {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * prime
		}
		h *= prime // no part has a NUL
	}
	return max(h, 1)
}

// Heirs finds for each previous rule which one of next it has become, by its place; -1: it
// is gone. That is the one of its name if it is the same; else one that is the same under
// another name; else the one of its name, whatever that does now, unless another of the
// previous was that. So a rule keeps what waits when it is renamed, when it is changed, and when two
// swap their names. What waits for a rule that has several interfaces now, and none of them was
// its own, goes by the first.
func Heirs(before, next []Rule) []int { return heirs(before, next, func(int) bool { return false }) }

// heirs does the work of Heirs. was reports of a rule of next, by its place, that it was there
// before though it is not in before.
func heirs(before, next []Rule, was func(int) bool) []int {
	if len(before) == 0 {
		return nil
	}
	found := make([]int, len(before))
	if slices.EqualFunc(before, next, func(a, b Rule) bool { return a.Name == b.Name && a.Is == b.Is }) {
		for i := range found {
			found[i] = i
		}
		return found
	}
	type label struct {
		name string
		is   uint64
	}
	same, alike, named := map[label]int{}, map[uint64]int{}, map[string]int{}
	for i, r := range slices.Backward(next) { // of several the first
		if r.Common != "" {
			named[r.Common] = i
		}
	}
	for i, r := range slices.Backward(next) {
		same[label{r.Name, r.Is}], alike[r.Is], named[r.Name] = i, i, i
	}
	delete(alike, 0)
	known := make(map[int]bool, len(before))
	for i, r := range before {
		heir, ok := same[label{r.Name, r.Is}]
		if !ok {
			heir, ok = alike[r.Is]
		}
		if found[i] = -1; ok {
			found[i], known[heir] = heir, true
		}
	}
	for i, r := range before {
		if heir, ok := named[r.Name]; ok && found[i] < 0 && !known[heir] && !was(heir) {
			found[i] = heir
		}
	}
	return found
}
