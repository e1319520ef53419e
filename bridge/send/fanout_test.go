package send_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"

	"github.com/google/go-cmp/cmp"
)

// ordered is a socket that takes all, and looks at how much it is given at once, and in which
// order.
type ordered struct {
	fake.BlackHole
	most int
	next map[netip.AddrPort]uint32 // what each group gets next
	bad  int
}

func (s *ordered) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, _ func(int, error)) (int, error) {
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

// What a hundred rules make wait of one message is in memory once.
func TestWhatWaitsOfOneMessageIsInMemoryOnce(t *testing.T) {
	const rules, messages, size = 100, 10, 60_000
	var specs []mapping.SendRule
	for i := range rules {
		specs = append(specs, fake.SendRule(t, fmt.Sprint("r", i), "t", fmt.Sprintf("239.1.1.%d:5000", i+1)))
	}
	b := newRig(t, &fake.Network{}, 1<<30, specs...)
	batch := make([]session.Message, messages)
	for i := range batch {
		batch[i] = fake.Message("t", strings.Repeat("x", size), 1)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b.send.Handle(batch)
	if got := b.Status().Queue.Messages; got != rules*messages {
		t.Fatalf("%d datagrams wait, want %d", got, rules*messages)
	}
	if took, want := heap()-before, uint64(3*messages*size); took > want {
		t.Errorf("they take %d bytes, want %d at most", took, want)
	}
	runtime.KeepAlive(batch)
}

// What waits is what came, also where the memory of a batch, and that of what is decoded, is used again
// while it waits.
func TestWhatWaitsIsWhatCameThoughItsMemoryIsUsedAgain(t *testing.T) {
	hex, err := mapping.ParsePayload("hex")
	if err != nil {
		t.Fatal(err)
	}
	decodes := func(r *mapping.SendRule) { r.Payload = hex }
	n := &fake.Network{}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "raw", "t", "239.1.1.1:5000"), fake.SendRule(t, "same", "t", "239.1.1.2:5000"),
		fake.SendRule(t, "hex", "t", "239.1.1.3:5000", decodes), fake.SendRule(t, "hex too", "t", "239.1.1.4:5000", decodes))
	payload := make([]byte, 4)
	want := map[string][]string{}
	for i := range 50 {
		copy(payload, fmt.Sprintf("%04x", i))
		batch := []session.Message{fake.Message("t", "", 1), fake.Message("t", "ffff", 1)}
		batch[0].Payload = payload
		b.send.Handle(batch)
		for _, group := range []string{"239.1.1.1:5000", "239.1.1.2:5000"} {
			want[group] = append(want[group], fmt.Sprintf("%04x", i), "ffff")
		}
		for _, group := range []string{"239.1.1.3:5000", "239.1.1.4:5000"} {
			want[group] = append(want[group], string([]byte{0, byte(i)}), "\xff\xff")
		}
	}
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	fake.WaitFor(t, "what waited", func() bool { return b.Status().Queue.Messages == 0 })
	got := map[string][]string{}
	for _, sent := range n.LastSocket().Took() {
		to, payload, _ := strings.Cut(sent, " ")
		got[to] = append(got[to], payload)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}
