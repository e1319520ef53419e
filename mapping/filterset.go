package mapping

// A FilterSet finds which of many filters covers another, by the levels of that one
// instead of looking at each. It never changes.
type FilterSet struct{ trie *trie }

// NewFilterSet returns a set of filters, which are known by their places in the list.
func NewFilterSet(filters []Filter) *FilterSet {
	t := newTrie(len(filters), 0)
	for i := len(filters) - 1; i >= 0; i-- {
		t.insert(filters[i].mqtt, int32(i))
	}
	return &FilterSet{t}
}

// Covering returns the place of the first filter that covers f, or -1. It makes no
// garbage.
func (s *FilterSet) Covering(f Filter) int {
	found := none
	if f.mqtt != "" {
		s.trie.match(f.mqtt, func(first int32) {
			if found == none || first < found {
				found = first
			}
		})
	}
	return int(found)
}
