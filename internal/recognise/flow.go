package recognise

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"unicode"
	"unicode/utf8"
)

const (
	// maxKinds is how many kinds of a protocol's messages are kept of a flow.
	maxKinds = 8

	// convincing is how many datagrams that only look like a protocol name it, where all of a
	// flow do, away from the protocol's own group and port.
	convincing = 3
)

// Content is what payloads are of which no protocol is known.
type Content string

const (
	Empty  Content = "empty"
	JSON   Content = "JSON"
	Text   Content = "text"
	Binary Content = "binary"
)

// Flow is the datagrams to one group and port. Its memory is bounded. The zero Flow is not
// ready for use, see [NewFlow].
type Flow struct {
	to       netip.AddrPort
	total    int
	votes    map[Protocol]*vote
	rtp      rtp
	contents map[Content]int
}

// vote is what speaks for a protocol.
type vote struct {
	strong, weak int
	kinds        []string
	evidence     string
}

// NewFlow returns the flow to a group, or to an address of a host, with its port.
func NewFlow(to netip.AddrPort) *Flow {
	return &Flow{to: to, votes: make(map[Protocol]*vote), contents: make(map[Content]int)}
}

// Add looks at one more datagram. It keeps nothing of the payload.
func (f *Flow) Add(source netip.AddrPort, payload []byte) {
	f.total++
	f.contents[contentOf(payload)]++
	f.rtp.add(source, payload)
	m, ok := Recognise(payload)
	if !ok {
		return
	}
	if m.Protocol == MDNS && f.to.Port() == 5355 {
		m.Protocol, m.Evidence = LLMNR, "a DNS message that fills the datagram (RFC 4795)"
	}
	v := f.votes[m.Protocol]
	if v == nil {
		v = &vote{evidence: m.Evidence}
		f.votes[m.Protocol] = v
	}
	if m.Weak {
		v.weak++
	} else {
		v.strong++
	}
	if m.Kind != "" && !slices.Contains(v.kinds, m.Kind) && len(v.kinds) < maxKinds {
		v.kinds = append(v.kinds, m.Kind)
	}
}

// Finding is what a flow speaks, and why that is thought.
type Finding struct {
	Protocol Protocol
	Kinds    []string // of its messages, the first few
	Evidence []string // for people: bytes, then what supports them
	Share    int      // of the datagrams, in percent
	Others   []Protocol
	Perhaps  Protocol // where Protocol is Unknown: what it looks like; may be empty
	Content  Content  // of most datagrams
}

// Finding says what is known by now.
func (f *Flow) Finding() Finding {
	result := Finding{Protocol: Unknown, Content: f.content()}
	var named, doubtful []Protocol
	for p, v := range f.votes {
		if v.strong > 0 || AtHome(p, f.to) || v.weak >= convincing && v.weak == f.total {
			named = append(named, p)
		} else {
			doubtful = append(doubtful, p)
		}
	}
	order := func(a, b Protocol) int {
		x, y := f.votes[a], f.votes[b]
		return cmp.Or(cmp.Compare(y.strong+y.weak, x.strong+x.weak), cmp.Compare(a, b))
	}
	slices.SortFunc(named, order)
	slices.SortFunc(doubtful, order)
	// RTP is what the others cannot be, where it was found: a stream that is not theirs.
	if f.rtp.found && (len(named) == 0 || f.votes[named[0]].strong == 0) {
		result.Protocol, result.Share = RTP, 100
		result.Evidence = []string{fmt.Sprintf("version 2 and %d packets in a row by sequence number, of one SSRC (RFC 3550, 5.1)", inSequence)}
		result.Kinds = []string{fmt.Sprintf("payload type %d", f.rtp.kind)}
		if name := rtpKinds[f.rtp.kind]; name != "" {
			result.Kinds[0] += ", " + name
		}
	} else if len(named) > 0 {
		v := f.votes[named[0]]
		result.Protocol, result.Kinds, result.Others = named[0], slices.Clone(v.kinds), named[1:]
		result.Share = 100 * (v.strong + v.weak) / f.total
		result.Evidence = []string{v.evidence}
		if v.strong == 0 && !AtHome(named[0], f.to) {
			result.Evidence = append(result.Evidence, fmt.Sprintf("in all of %d datagrams", f.total))
		}
	} else if len(doubtful) > 0 {
		result.Perhaps = doubtful[0]
		result.Evidence = []string{f.votes[doubtful[0]].evidence}
	}
	if result.Protocol != Unknown && AtHome(result.Protocol, f.to) {
		result.Evidence = append(result.Evidence, "at home there: "+f.to.String())
		if !f.to.Addr().IsMulticast() {
			result.Evidence[len(result.Evidence)-1] = fmt.Sprintf("at home there: port %d", f.to.Port())
		}
	}
	return result
}

// content is what most of the datagrams are.
func (f *Flow) content() Content {
	best := Empty
	for _, c := range []Content{JSON, Text, Binary} {
		if f.contents[c] > f.contents[best] {
			best = c
		}
	}
	return best
}

func contentOf(b []byte) Content {
	switch {
	case len(b) == 0:
		return Empty
	case (b[0] == '{' || b[0] == '[') && json.Valid(b):
		return JSON
	case isText(b[:min(len(b), searched)], len(b) > searched):
		return Text
	}
	return Binary
}

// isText reports whether b is text; it may be cut in the middle of a letter.
func isText(b []byte, cut bool) bool {
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size < 2 {
			return cut && !utf8.FullRune(b)
		}
		if r < 0x20 && !unicode.IsSpace(r) || r == 0x7f {
			return false
		}
		b = b[size:]
	}
	return true
}
