package send

import (
	"net/netip"

	"topicast/bridge/multicast"
)

// The counter of a rule is put into its datagrams as they leave, so that what waits has none,
// and each datagram that leaves has the next one: copies too, which receivers discard otherwise
// (ANSI E1.31 6.7.2).

// maxCounted is for how many targets of a binding it is known where the counter stands.
const maxCounted = 1 << 16

// numbering is where the counters of a binding stand. Its mu guards it.
type numbering struct {
	used    bool // a rule has one
	next    map[netip.AddrPort]uint32
	toSend  []numbered // of what is to be sent next; transmit takes it
	sent    []numbered // of what was sent last
	payload []byte     // the payloads with their numbers
	told    int        // of sent: the one that asSent has found last
}

// numbered is a datagram that has a counter.
type numbered struct {
	at      int // in the batch
	rule    *Rule
	without []byte // its payload
	with    []byte // the same with its number, once it was put
}

// number notes that a datagram of the next batch is a rule's. Callers hold mu.
func (n *numbering) number(at int, r *Rule) {
	if !r.Counter.IsZero() {
		n.toSend = append(n.toSend, numbered{at: at, rule: r})
	}
}

// put gives the datagrams of a batch their numbers.
func (n *numbering) put(out []multicast.Datagram) {
	n.payload, n.told = n.payload[:0], 0
	if n.next == nil {
		n.next = make(map[netip.AddrPort]uint32)
	}
	for i := range n.toSend {
		d := &n.toSend[i]
		to := &out[d.at]
		d.without = to.Payload
		from := len(n.payload)
		n.payload = append(n.payload, to.Payload...) // should it move, those before stay alive where they were
		to.Payload = n.payload[from:len(n.payload):len(n.payload)]
		next, known := n.next[to.To]
		if !known && len(n.next) >= maxCounted {
			for any := range n.next {
				delete(n.next, any)
				break
			}
		}
		d.rule.Counter.Put(to.Payload, next)
		n.next[to.To] = next + 1
	}
}

// takeBack takes the numbers out again; those that did not leave are for the next datagrams.
func (n *numbering) takeBack(out []multicast.Datagram, left int) {
	for i := range n.toSend {
		d := &n.toSend[i]
		to := &out[d.at]
		to.Payload, d.with = d.without, to.Payload
		if d.at >= left {
			n.next[to.To]--
		}
	}
	clear(n.sent)
	n.sent, n.toSend = n.toSend, n.sent[:0]
	if cap(n.payload) > maxDecoded {
		n.payload = nil
	}
}

// asSent is a payload of the last batch as it left, which is asked for in the order of that.
func (n *numbering) asSent(payload []byte) []byte {
	for i := n.told; i < len(n.sent) && len(payload) > 0; i++ {
		if d := &n.sent[i]; len(d.without) > 0 && &d.without[0] == &payload[0] {
			n.told = i
			return d.with
		}
	}
	return payload
}

// again notes that one of those that were sent last is sent once more, alone.
func (n *numbering) again(at int) {
	for _, d := range n.sent {
		if d.at == at {
			n.number(0, d.rule)
			return
		}
	}
}
