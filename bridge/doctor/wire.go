package doctor

import (
	"net/netip"
	"sync"
	"time"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/internal/frame"
)

// A Flow is who sends datagrams to whom.
type Flow struct {
	Sent     bool // it leaves this host
	From, To netip.AddrPort
}

// Wire is what passed by an interface while Look listened: before any firewall of what comes in, and
// after any of what leaves (packet(7)).
type Wire struct {
	Flows     map[Flow]int       // datagrams
	More      int                // of flows beyond those that are kept
	Fragments map[netip.Addr]int // parts that came in of datagrams that were not whole yet, by where they go
	Members   *members.Table     // who has said that it listens
	Lost      uint64             // packets that came faster than they were looked at
}

// mostFlows bounds what is kept of what others send.
const mostFlows = 256

func newWire(now time.Time) *Wire {
	return &Wire{Flows: make(map[Flow]int), Fragments: make(map[netip.Addr]int), Members: members.NewTable(now)}
}

// add takes in a packet.
func (w *Wire) add(p frame.Packet, sent bool, now time.Time) {
	switch p.Kind {
	case frame.Datagram:
		if !bounded(w.Flows, Flow{sent, p.Source, p.To}) {
			w.More++
		}
	case frame.Fragment:
		if !sent {
			bounded(w.Fragments, p.To.Addr())
		}
	case frame.Membership:
		w.Members.Hear(p, sent, now)
	}
}

// bounded counts one more of a key, if there is room for it.
func bounded[K comparable](m map[K]int, key K) bool {
	if _, known := m[key]; !known && len(m) >= mostFlows {
		return false
	}
	m[key]++
	return true
}

// An ear listens at the wire of an interface.
type ear struct {
	socket *multicast.PacketSocket
	mu     sync.Mutex // of wire
	wire   *Wire
	done   sync.WaitGroup
}

// overhear begins to. It needs CAP_NET_RAW.
func overhear(on multicast.Interface) (*ear, error) {
	socket, err := multicast.OpenPacketSocket(on, multicast.SightPassing)
	if err != nil {
		return nil, err
	}
	e := &ear{socket: socket, wire: newWire(time.Now())}
	e.done.Go(func() {
		var reader frame.Reader
		packet := make([]byte, 1<<16)
		for {
			n, sent, err := socket.Read(packet)
			if err != nil {
				return
			}
			now := time.Now()
			p := reader.Read(packet[:n], now)
			e.mu.Lock()
			e.wire.add(p, sent, now)
			e.mu.Unlock()
		}
	})
	return e, nil
}

// came is what has come in until now: how many datagrams of whom, and where they go.
func (e *ear) came() map[Flow]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	flows := make(map[Flow]int)
	for f, n := range e.wire.Flows {
		if !f.Sent {
			flows[f] = n
		}
	}
	return flows
}

// close ends it, and returns what was overheard.
func (e *ear) close() *Wire {
	e.wire.Lost = e.socket.Lost()
	e.socket.Close()
	e.done.Wait()
	return e.wire
}
