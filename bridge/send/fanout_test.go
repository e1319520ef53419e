package send_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// ordered is a socket that takes all, and looks at how much it is given at once, and in which
// order.
type ordered struct {
	fake.BlackHole
	most int
	next map[netip.AddrPort]uint32 // what each group gets next
	bad  int
}

func (s *ordered) Send(batch []multicast.Datagram, _ func(int, error)) (int, error) {
	s.most = max(s.most, len(batch))
	for _, d := range batch {
		if binary.BigEndian.Uint32(d.Payload) != s.next[d.To] {
			s.bad++
		}
		s.next[d.To]++
	}
	return len(batch), nil
}

// What one batch asks for is the product of its messages and their rules.
func TestABatchToThousandsOfGroupsTakesBoundedMemory(t *testing.T) {
	const groups, messages = 300, 300
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	var rules []mapping.SendRule
	for i := range groups {
		rules = append(rules, fake.SendRule(t, fmt.Sprint("r", i), "t", fmt.Sprintf("239.1.%d.%d:5000", 1+i/200, 1+i%200)))
	}
	s := &ordered{next: make(map[netip.AddrPort]uint32)}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: func(is *fake.Socket) send.Sender { s.Socket = is; return s }}, rules, nil)
	batch := make([]session.Message, messages)
	for i := range batch {
		batch[i] = fake.Message("t", string(binary.BigEndian.AppendUint32(nil, uint32(i))), 1)
	}
	b.send.Handle(batch)
	for group, took := range s.next {
		if took != messages {
			t.Errorf("%v got %d of %d", group, took, messages)
		}
	}
	if len(s.next) != groups || s.bad != 0 {
		t.Errorf("%d groups, %d datagrams out of order", len(s.next), s.bad)
	}
	if s.most > send.MaxGathered {
		t.Errorf("%d datagrams were gathered at once", s.most)
	}
	for i := range batch {
		if batch[i].Hold {
			t.Errorf("message %d is held back", i)
		}
	}
}

// Each rule decodes for itself, and may make half a megabyte of what the broker sent once.
func TestDecodedPayloadsOfABatchTakeBoundedMemory(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	var rules []mapping.SendRule
	for i := range 100 {
		r := fake.SendRule(t, fmt.Sprint("r", i), "t", fmt.Sprintf("239.1.1.%d:5000", 1+i))
		r.Payload = fake.MustPayload(t, "hex")
		rules = append(rules, r)
	}
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, rules, nil)
	b.send.Handle([]session.Message{fake.Message("t", fmt.Sprintf("%0100000x", 1), 1)})
	if got := b.Status().Rules[99].Sent; got != 1 {
		t.Errorf("the last rule sent %d", got)
	}
	if got := b.send.Decoded(); got > 2*send.MaxDecoded {
		t.Errorf("%d bytes of decoded payloads were kept at once", got)
	}
}
