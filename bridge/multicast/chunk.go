package multicast

import (
	"net"
	"sync"

	"golang.org/x/net/ipv4"
)

const (
	// maxEntries is how many entries make a chunk. More in one system call gain
	// nothing: what a datagram costs is its way through the network stack.
	maxEntries = 64

	// maxSegments is how many datagrams make a run (UDP_MAX_SEGMENTS before Linux 6.9).
	maxSegments = 64

	// maxDatagrams is how many make a chunk, about a millisecond of the kernel's
	// work; the last run may bring some more.
	maxDatagrams = 1024
)

// chunk holds the memory of one system call. Chunks are shared by all senders
// and hold nothing of a batch between two calls of Send.
type chunk struct {
	n        int // entries in use
	messages [maxEntries]ipv4.Message
	entries  [maxEntries]entry
	payloads [][]byte
}

// entry is what a message of the same index points to, and more about it.
type entry struct {
	addr  net.UDPAddr
	ip    [16]byte
	oob   []byte
	first int // place of its first datagram in the chunk
}

var chunks = sync.Pool{New: func() any {
	c := new(chunk)
	oob := make([]byte, maxEntries*segmentSpace)
	for i := range c.entries {
		e := &c.entries[i]
		e.oob, oob = oob[:segmentSpace:segmentSpace], oob[segmentSpace:]
		c.messages[i].Addr = &e.addr
	}
	return c
}}

// release gives the chunk back, without the payloads, which belong to others.
func (c *chunk) release() {
	c.clear()
	chunks.Put(c)
}

func (c *chunk) clear() {
	for i := range c.messages[:c.n] {
		c.messages[i].Buffers, c.messages[i].OOB = nil, nil
	}
	clear(c.payloads)
	c.n, c.payloads = 0, c.payloads[:0]
}

// fill makes a chunk of the datagrams at the front of batch, as many as it may
// hold, up to one that send would refuse. Either all of them need fragments, which it
// reports, or none does; and either all may go to a broadcast address, or none may.
func (s *Sender) fill(c *chunk, batch []Datagram, segment int) (fragments bool) {
	c.clear()
	fragments = len(batch[0].Payload) > s.whole
	broadcast := batch[0].Broadcast
	for len(batch) > 0 && c.n < maxEntries && len(c.payloads) < maxDatagrams && s.refuse(&batch[0]) == nil && len(batch[0].Payload) > s.whole == fragments && batch[0].Broadcast == broadcast {
		run := batch[:runLength(batch, segment)]
		c.add(run)
		batch = batch[len(run):]
	}
	return fragments
}

// add makes a datagram or a run the next entry. The payloads are not copied:
// the kernel gathers them.
func (c *chunk) add(run []Datagram) {
	e, m := &c.entries[c.n], &c.messages[c.n]
	e.setAddr(&run[0])
	e.first = len(c.payloads)
	for i := range run {
		c.payloads = append(c.payloads, run[i].Payload)
	}
	m.Buffers = c.payloads[e.first:]
	if len(run) > 1 {
		m.OOB = setSegment(e.oob, len(run[0].Payload))
	}
	c.n++
}

// setAddr writes the group into the memory the entry already has. There is no
// zone: the socket's interface decides, and x/net would look it up in a list of
// all interfaces for every datagram.
func (e *entry) setAddr(d *Datagram) {
	g := d.To.Addr()
	if g.Is4() {
		a := g.As4()
		e.addr.IP = e.ip[:copy(e.ip[:], a[:])]
	} else {
		e.ip = g.As16()
		e.addr.IP = e.ip[:]
	}
	e.addr.Port = int(d.To.Port())
}

// datagrams returns how many datagrams entries from to to-1 carry.
func (c *chunk) datagrams(from, to int) int {
	return c.place(to) - c.place(from)
}

func (c *chunk) place(entry int) int {
	if entry < c.n {
		return c.entries[entry].first
	}
	return len(c.payloads)
}

// runLength returns how many datagrams from the front of batch can leave as one
// entry. segment is the longest payload that may be part of a run. An empty
// datagram is no segment; at the front it makes all others too long to follow.
func runLength(batch []Datagram, segment int) int {
	size := len(batch[0].Payload)
	if size > segment {
		return 1
	}
	n, total := 1, size
	for n < min(len(batch), maxSegments) {
		next := len(batch[n].Payload)
		if next == 0 || next > size || total+next > MaxPayload || batch[n].To != batch[0].To || batch[n].Broadcast != batch[0].Broadcast {
			break
		}
		n, total = n+1, total+next
		if next < size {
			break // only the last segment may be shorter
		}
	}
	return n
}
