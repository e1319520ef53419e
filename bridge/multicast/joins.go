package multicast

import "net/netip"

// Joins are the groups that are joined on this host, whoever has joined them.
type Joins map[joined]struct{}

type joined struct {
	index int // of the interface
	group netip.Addr
}

// Has reports whether a group is joined on the interface with an index.
func (j Joins) Has(index int, group netip.Addr) bool {
	_, ok := j[joined{index, group}]
	return ok
}

// Add adds a group.
func (j Joins) Add(index int, group netip.Addr) { j[joined{index, group}] = struct{}{} }
