package netlab

import "net/netip"

// fragmentKey says which packet a fragment belongs to (RFC 791, 3.2).
type fragmentKey struct {
	src, dst netip.Addr
	protocol byte
	id       uint32
}

// reassembly holds the fragments of the packets that are not complete yet.
type reassembly map[fragmentKey][]Frame

// add takes a fragment and returns the datagram if it was the last one missing.
func (r reassembly) add(f Frame) (whole Frame, ok bool) {
	parts := append(r[f.fragmentID], f)
	r[f.fragmentID] = parts
	var first Frame
	size, have := -1, 0
	for _, p := range parts {
		have += len(p.Payload)
		if p.offset == 0 {
			first = p
		}
		if !p.more {
			size = p.offset + len(p.Payload)
		}
	}
	// A cable repeats nothing, so what adds up is complete.
	if have != size {
		return Frame{}, false
	}
	delete(r, f.fragmentID)
	whole = first
	whole.Fragments = len(parts)
	whole.Payload = make([]byte, size)
	for _, p := range parts {
		copy(whole.Payload[p.offset:], p.Payload)
	}
	return whole, whole.transport()
}
