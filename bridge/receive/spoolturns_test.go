package receive_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
)

// handle has a reader handle a datagram.
func (b *rig) handle(reader int, payload string) {
	b.working.Reader(reader).Handle([]multicast.Datagram{{Source: netip.MustParseAddrPort(fake.Device), Payload: []byte(payload)}})
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
