package mapping

import "hash/maphash"

// edges finds nodes of a trie by parent and level. It is a hash table with open
// addressing and linear probing whose slots are indexes of nodes. A map would
// hold parent and level of each a second time: a third of all the memory that
// 10,000 rules take.
type edges struct {
	slots []int32 // a power of two of them; a node's index plus one, 0 where there is none
	used  int
}

var edgeSeed = maphash.MakeSeed()

// slot is where the search for a node begins.
func (e *edges) slot(parent int32, level string) int {
	const odd = 0x9e3779b97f4a7c15 // spreads the parents, which are small numbers
	h := maphash.String(edgeSeed, level) ^ uint64(parent)*odd
	return int(h>>32) & (len(e.slots) - 1)
}

// find returns the node of that parent and level, or none.
func (e *edges) find(nodes []node, parent int32, level string) int32 {
	for i := e.slot(parent, level); e.slots[i] != 0; i = (i + 1) & (len(e.slots) - 1) {
		at := e.slots[i] - 1
		if n := &nodes[at]; n.parent == parent && n.level == level {
			return at
		}
	}
	return none
}

// add enters a node that is not there yet.
func (e *edges) add(nodes []node, at int32) {
	if e.used*4 >= len(e.slots)*3 { // fuller than that, searches get long
		old := e.slots
		e.slots = make([]int32, max(8, 2*len(old)))
		for _, s := range old {
			if s != 0 {
				e.put(nodes, s-1)
			}
		}
	}
	e.used++
	e.put(nodes, at)
}

func (e *edges) put(nodes []node, at int32) {
	i := e.slot(nodes[at].parent, nodes[at].level)
	for e.slots[i] != 0 {
		i = (i + 1) & (len(e.slots) - 1)
	}
	e.slots[i] = at + 1
}
