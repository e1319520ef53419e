package mapping

import (
	"math"
	"slices"
)

// A graph is directed: by node, the nodes that follow it. No node follows itself.
type graph [][]int32

// add adds a node that has no followers yet.
func (g *graph) add() int32 {
	*g = append(*g, nil)
	return int32(len(*g) - 1)
}

// cyclic returns which nodes are on a cycle: those that share their strongly
// connected component with another (Tarjan, "Depth-first search and linear graph
// algorithms", 1972).
func (g graph) cyclic() []bool {
	s := search{graph: g, number: make([]int32, len(g)), lowest: make([]int32, len(g)), cyclic: make([]bool, len(g))}
	for node := range g {
		if s.number[node] == 0 {
			s.visit(int32(node))
		}
	}
	return s.cyclic
}

type search struct {
	graph  graph
	number []int32 // in the order of the visits, from 1; 0: not yet
	lowest []int32 // the lowest number on the path that is in reach; done once the component is known
	path   []int32 // nodes whose component is not known yet
	count  int32
	cyclic []bool
}

// done is above every number.
const done = math.MaxInt32

func (s *search) visit(node int32) {
	s.count++
	s.number[node], s.lowest[node] = s.count, s.count
	s.path = append(s.path, node)
	for _, next := range s.graph[node] {
		if s.number[next] == 0 {
			s.visit(next)
		}
		s.lowest[node] = min(s.lowest[node], s.lowest[next])
	}
	if s.lowest[node] < s.number[node] {
		return
	}
	alone := s.path[len(s.path)-1] == node
	for member := none; member != node; {
		member = s.path[len(s.path)-1]
		s.path = s.path[:len(s.path)-1]
		s.lowest[member] = done
		s.cyclic[member] = !alone
	}
}

// cycle returns a shortest cycle from a node back to it: the node first, and
// then those on the way.
func (g graph) cycle(node int32) []int32 {
	before := make(map[int32]int32) // the node on the way to each
	queue := []int32{node}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, next := range g[at] {
			if _, seen := before[next]; seen {
				continue
			}
			before[next] = at
			if next == node {
				return backwards(before, node)
			}
			queue = append(queue, next)
		}
	}
	return nil
}

func backwards(before map[int32]int32, node int32) []int32 {
	way := []int32{}
	for at := before[node]; at != node; at = before[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	return append([]int32{node}, way...)
}
