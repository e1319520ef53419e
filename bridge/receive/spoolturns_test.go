package receive_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// handle has a reader handle a datagram.
func (b *rig) handle(reader int, payload string) {
	b.working.Reader(reader).Handle([]multicast.Datagram{{Source: netip.MustParseAddrPort(fake.Device), Payload: []byte(payload)}})
}

// What waits in memory, as the disk does not answer, is published as it came when the broker is back,
// with its properties, is known to the loop guard, and gives all the room back that it took.
func TestWhatWaitsInMemoryIsPublishedAsItCame(t *testing.T) {
	const size = 60_000
	b, _, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28, Loops: guarded},
		[]mapping.SendRule{fake.SendRule(t, "out", "topic", "239.1.1.1:5000")},
		fake.ReceiveRule(t, "r", "239.1.1.1:5000", "topic", metadata, contentType))
	written, goOn := make(chan struct{}), make(chan struct{})
	other := b.options.Spool.On.Queue("hangs")
	other.Append(spool.Record{Topic: []byte("t")}, func(error) {
		close(written)
		<-goOn // the goroutine that writes
	})
	<-written
	defer close(goOn)
	for room := true; room; { // until the disk takes no more, however short it is
		_, room = other.Append(spool.Record{Topic: []byte("t"), Payload: make([]byte, size)}, nil)
	}
	for room := true; room; {
		_, room = other.Append(spool.Record{Topic: []byte("t")}, nil)
	}
	b.handle(0, "x")
	if waits, least := b.budget.Bytes(), int64(account.Overhead+receive.PendingCost+len("topic")+1); b.working.Rules[0].Waiting() != 1 || waits < least {
		t.Errorf("%d bytes wait, want %d at least", waits, least)
	}
	known := b.receive.GuardUsage().Remembered
	b.connect(true)
	p.Await(t, 1)
	if got := b.receive.GuardUsage().Remembered; got != known+1 {
		t.Errorf("the loop guard remembers %d, want one more than %d", got, known)
	}
	if got := bearing(t, p, 0); got != "type=application/json source=172.17.0.9:4000 group=239.1.1.1:5000 interface=iso0 at" {
		t.Errorf("it bears %q", got)
	}
	m := p.Batch(0)
	if got, want := b.budget.Bytes(), int64(account.Overhead+m.Size()); got != want {
		t.Errorf("it takes %d bytes when the session has it, want %d", got, want)
	}
	p.Acknowledge()
	if got := b.budget.Bytes(); got != 0 {
		t.Errorf("%d bytes are in use when the broker has it", got)
	}
}

// What finds no room among what others have for the disk goes there as soon as it has taken
// that, though nothing of the rule is on its way which would tell.
func TestWhatTheDiskTurnsAwayGoesThereWhenOthersHave(t *testing.T) {
	const size = 60_000
	b, _, _ := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil,
		fake.ReceiveRule(t, "much", "239.1.1.1:5000", "much"), fake.ReceiveRule(t, "little", "239.1.1.2:5000", "little"))
	written, goOn := make(chan struct{}), make(chan struct{})
	b.options.Spool.On.Queue("hangs").Append(spool.Record{Topic: []byte("t")}, func(error) {
		close(written)
		<-goOn // the goroutine that writes
	})
	<-written
	much := 0
	for ; b.working.Rules[0].Waiting() == 0; much++ { // until the disk takes no more
		b.handle(0, strings.Repeat("x", size))
	}
	b.handle(1, strings.Repeat("x", size))
	if b.working.Rules[1].Waiting() != 1 {
		t.Error("the disk takes more of the other rule")
	}
	close(goOn)
	b.spooled(t, 1+much+1)
}

// Short messages take more memory than their payloads, on their way from the disk too. Where many
// rules have some there, each publishes a few of them.
func TestWhatIsOnItsWayFromTheDiskTakesBoundedMemory(t *testing.T) {
	const rules, each = 200, 100
	var table []mapping.ReceiveRule
	for i := range rules {
		r := fake.ReceiveRule(t, fmt.Sprint("r", i), fmt.Sprintf("239.1.1.%d:5000", i), fmt.Sprint("t/", i))
		r.Split = mapping.SplitLine
		table = append(table, r)
	}
	b, _, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil, table...)
	for i := range rules {
		b.handle(i, strings.Repeat("x\n", each))
	}
	b.spooled(t, rules*each)
	b.connect(true)
	of := map[string]int{}
	fake.WaitFor(t, "a message of each rule", func() bool {
		clear(of)
		for _, m := range p.Published() {
			of[m]++
		}
		return len(of) == rules
	})
	if all := len(p.Published()); all > receive.InflightMost+receive.InflightSize {
		t.Errorf("%d messages are on their way, want %d at most, and one rule's more", all, receive.InflightMost)
	}
	told := 0
	fake.WaitFor(t, "all of them", func() bool {
		for n := len(p.Published()); told < n; told++ {
			p.Batch(told).Origin.Published(1, 1)
		}
		return told == rules*each
	})
}

// A rule that has little on disk is soon done with it, however many others have much.
func TestARuleThatHasLittleOnDiskDoesNotWaitForThoseThatHaveMuch(t *testing.T) {
	const others, each, few = 100, 1100, 200
	table := []mapping.ReceiveRule{fake.ReceiveRule(t, "little", "239.1.2.1:5000", "little")}
	for i := range others {
		r := fake.ReceiveRule(t, fmt.Sprint("r", i), fmt.Sprintf("239.1.1.%d:5000", i), fmt.Sprint("t/", i))
		r.Split = mapping.SplitLine
		table = append(table, r)
	}
	b, _, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil, table...)
	for range 2 {
		for i := range others {
			b.handle(1+i, strings.Repeat("x\n", each/2))
		}
	}
	for range few {
		b.handle(0, "x")
	}
	b.spooled(t, others*each+few)
	b.connect(true)
	told, little := 0, 0
	fake.WaitFor(t, "what the rule has", func() bool {
		for n := min(len(p.Published()), told+1000); told < n; told++ {
			m := p.Batch(told)
			if string(m.Topic) == "little" {
				little++
			}
			m.Origin.Published(1, 1)
		}
		return little == few
	})
	if told > 2*receive.InflightMost {
		t.Errorf("%d messages went before, of the %d that others have", told, others*each)
	}
}

// A rule of which little waits goes on by the session, which has rules take turns, while another
// one has so much waiting that it goes by the disk.
func TestARuleThatHasLittleWaitingGoesByNoDisk(t *testing.T) {
	b, _, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 64 << 10}, nil,
		fake.ReceiveRule(t, "much", "239.1.1.1:5000", "much"), fake.ReceiveRule(t, "little", "239.1.1.2:5000", "little"))
	b.connect(true)
	for range 100 {
		b.handle(0, strings.Repeat("x", 500))
	}
	for i := range 3 {
		b.handle(1, fmt.Sprint(i))
	}
	if much, little := b.working.Rules[0], b.working.Rules[1]; !much.Spooling() || little.Spooling() {
		t.Errorf("by the disk goes the one that has much: %t, and the one that has little: %t", much.Spooling(), little.Spooling())
	}
	for i := range 3 {
		if m := fmt.Sprint("little ", i); !slices.Contains(p.Published(), m) {
			t.Errorf("%q is not published", m)
		}
	}
	for range 1000 { // now it has much
		b.handle(1, "x")
	}
	if !b.working.Rules[1].Spooling() {
		t.Error("it does not go by the disk when it has much")
	}
}
