package receive_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// onDisk waits until n messages are on disk, and safe there.
func (b *rig) onDisk(t *testing.T, n int) {
	t.Helper()
	fake.WaitFor(t, fmt.Sprint(n, " messages on disk"), func() bool {
		s := b.options.Spool.On
		return s.Len() == n && s.Undecided() == 0
	})
}

// The program is killed while the broker is away: the next one publishes what the
// session had, in the order with what came later.
func TestWhatTheSessionHadWhenTheConnectionEndedOutlivesAKill(t *testing.T) {
	dir := t.TempDir()
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.Retain = true }))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	p.Await(t, 3)
	if left := p.Rescue(); left != 0 {
		t.Fatalf("no copy of %d", left)
	}
	b.connect(false)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4", "5")
	b.onDisk(t, 5)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	next.connect(true)
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3", "t 4", "t 5"}, p.Deliver(t, 5)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if m := p.Batch(0); m.QoS != 1 || !m.Retain {
		t.Errorf("published with %+v", m)
	}
	next.onDisk(t, 0)
}

// The broker comes back to the same process: the session has the messages still, and
// nothing is published twice.
func TestACopyIsNotPublishedBesideTheMessage(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	p.Await(t, 3)
	p.Rescue()
	b.connect(false)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4", "5")
	b.onDisk(t, 5)
	if got := b.Status().Receive[0].WaitingDisk; got != 5 {
		t.Errorf("%d on disk by the status", got)
	}
	b.connect(true)
	p.Await(t, 5) // 4 and 5 behind what the session has
	p.Mu.Lock()
	first := p.Origins[:2]
	p.Origins = p.Origins[2:]
	p.Mu.Unlock()
	for _, o := range first {
		o.Published(1, 1)
	}
	b.connect(false) // and what the broker has is forgotten all the same
	b.onDisk(t, 3)
	b.connect(true)
	p.Acknowledge()
	b.onDisk(t, 0)
	fake.WaitFor(t, "the end of the spooling", func() bool { return !b.working.Rules[0].Spooling() })
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "6")
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3", "t 4", "t 5", "t 6"}, p.Deliver(t, 6)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if s := b.Status().Receive[0]; s.Published != 6 || s.Drops != nil {
		t.Errorf("%d counted as published, drops %v", s.Published, s.Drops)
	}
	if got := b.budget.Count(); got != 0 {
		t.Errorf("%d messages count as waiting", got)
	}
}

// Copies that are made while the broker answers, if late, keep nothing back.
func TestCopiesSendNothingThroughTheSpool(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	p.Await(t, 2)
	p.Rescue()
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3")
	p.Await(t, 3)
	if b.working.Rules[0].Spooling() {
		t.Error("the rule uses the spool")
	}
	b.onDisk(t, 2)
	p.Acknowledge()
	b.onDisk(t, 0)
	p.Rescue() // nothing is left
	b.onDisk(t, 0)
}

// What an earlier process left is published, and the copies behind it are not.
func TestWhatAnEarlierProcessLeftIsNoCopy(t *testing.T) {
	dir := t.TempDir()
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	p.Await(t, 3)
	b.receive.End()
	p.Stop()
	if got := b.Status().Receive[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	rule := next.working.Rules[0]
	// Such come together where the spool could be used only after a while.
	p.PublishBatch([]session.Publication{{Topic: []byte("t"), Payload: []byte("4"), QoS: 1, Origin: rule}, {Topic: []byte("t"), Payload: []byte("5"), QoS: 2, Origin: rule}})
	rule.Take(1)
	rule.Take(1)
	p.Rescue()
	next.onDisk(t, 5)
	fake.WaitFor(t, "the disk", func() bool { n, _ := next.copies().Front(make([]spool.Record, 6), 0); return n == 2 })
	p.Acknowledge()
	fake.WaitFor(t, "the pump to look", func() bool { return !next.receive.Untrimmed() })
	next.connect(true)
	if diff := cmp.Diff([]string{"t 4", "t 5", "t 1", "t 2", "t 3"}, p.Deliver(t, 5)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	next.onDisk(t, 0)
	if got := next.budget.Count(); got != 0 {
		t.Errorf("%d messages count as waiting", got)
	}
}

// A rule that a reload removes: what the session has of it is published still, and its
// copies go. Should it come back, nothing comes twice.
func TestTheCopiesOfARuleThatIsGoneGoToo(t *testing.T) {
	r := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"), fake.ReceiveRule(t, "s", "239.1.1.2:5000", "s")}
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{Spool: rigSpool{MaxAge: time.Hour}}, nil, r...)
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	p.Await(t, 2)
	p.Rescue()
	b.onDisk(t, 2)
	b.reload(t, nil, r[1:])
	if got := b.unused(); got != nil {
		t.Errorf("left without a rule are %q", got)
	}
	b.reload(t, nil, r)
	b.reload(t, nil, r[1:])
	p.Acknowledge()
	b.onDisk(t, 0)
	b.reload(t, nil, r)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3")
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3"}, p.Deliver(t, 3)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

// A copy that waits for longer than max_age is none the less of a message that the
// session has.
func TestACopyDoesNotExpire(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{Spool: rigSpool{MaxAge: time.Nanosecond}}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	p.Await(t, 2)
	p.Rescue()
	b.connect(false)
	b.onDisk(t, 2)
	b.expireOld()
	b.onDisk(t, 2)
	b.connect(true)
	p.Acknowledge()
	b.onDisk(t, 0)
	if s := b.Status().Receive[0]; s.Published != 2 || s.Drops != nil {
		t.Errorf("%d counted as published, drops %v", s.Published, s.Drops)
	}
}

// Copies find less room in the spool than what is nowhere else, and take none of it.
// Nothing is lost for want of a copy but what is lost at the end, and that is counted.
func TestCopiesTakeNoRoomOfOthers(t *testing.T) {
	const size = 300 // four messages and a half: each counts 66 bytes
	b, n, p := spooling(t, t.TempDir(), size, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	for i := range 6 {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
	}
	p.Await(t, 6)
	if left := p.Rescue(); left != 4 { // half of the spool
		t.Errorf("no copy of %d, want 4", left)
	}
	b.connect(false)
	for i := range 4 {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint("later ", i)[6:])
	}
	b.onDisk(t, 6)
	if got := b.Status().Receive[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4")
	fake.WaitFor(t, "a loss", func() bool { return b.Status().Receive[0].Drops["spool_full"] == 1 })
	b.receive.End()
	p.Stop()
	if got := b.Status().Receive[0].Drops; got["spool_full"] != 5 || len(got) != 1 {
		t.Errorf("drops %v", got)
	}
	if got := b.budget.Count(); got != 0 {
		t.Errorf("%d messages count as waiting", got)
	}
}

// What copies do not count is counted again when they are gone.
func TestCopiesAreCountedToTheLast(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 300, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	for range 5 {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
		fake.WaitFor(t, "both", func() bool { p.Mu.Lock(); defer p.Mu.Unlock(); return len(p.Origins) == 2 })
		if left := p.Rescue(); left != 0 {
			t.Fatalf("no copy of %d", left)
		}
		p.Acknowledge()
		b.onDisk(t, 0)
		fake.WaitFor(t, "none to count", func() bool { return b.options.Spool.On.Copies(0) == 0 })
	}
}

// A copy that the disk damages is left out, and those behind it go as ever.
func TestACopyThatTheDiskDamagesHoldsNothingUp(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	p.Await(t, 3)
	p.Rescue()
	var records [3]spool.Record
	fake.WaitFor(t, "the copies", func() bool { n, _ := b.copies().Front(records[:], 0); return n == 3 })
	b.copies().Remove(1)
	p.Acknowledge()
	b.onDisk(t, 0)
	fake.WaitFor(t, "none to be known", func() bool { return !b.working.Rules[0].Copying() })
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4")
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3", "t 4"}, p.Deliver(t, 4)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if s := b.Status().Receive[0]; s.Published != 4 || s.Drops != nil {
		t.Errorf("%d counted as published, drops %v", s.Published, s.Drops)
	}
}

// A rule without a spool keeps none either.
func TestWithoutASpoolThereAreNoCopies(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Iso0)
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")})
	r := b.working.Rules[0]
	if from, ok := r.Rescue(&session.Publication{Topic: []byte("t"), QoS: 1}); !ok || from != r {
		t.Errorf("the origin is %v, %v", from, ok)
	}
}

// The spool's file is lost, and with it the copies. The end makes others.
func TestCopiesThatAreLostAreMadeAgainAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	p.Await(t, 3)
	p.Rescue()
	b.onDisk(t, 3)
	// As many as the disk damages are left out at the front.
	var records [3]spool.Record
	fake.WaitFor(t, "the copies", func() bool { n, _ := b.copies().Front(records[:], 0); return n == 3 })
	b.copies().Remove(3)
	b.receive.End()
	p.Stop()
	b.onDisk(t, 3)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	next.connect(true)
	if got := p.Deliver(t, 3); !slices.Equal(got, []string{"t 1", "t 2", "t 3"}) {
		t.Errorf("published %q", got)
	}
}

// A message that waits in memory for the last that are on disk goes there too when the
// broker does not answer.
func TestWhatWaitsForASilentBrokerGoesToTheDisk(t *testing.T) {
	for _, how := range []string{"in time", "the connection ends"} {
		t.Run(how, func(t *testing.T) {
			b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
			const first = receive.InflightSize + 1 // after the first batch little is left, and what comes waits for it
			for i := range first {
				n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
			}
			b.onDisk(t, first)
			b.connect(true)
			p.Await(t, receive.InflightSize)
			p.Acknowledge()
			p.Await(t, first)
			n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "last")
			if how == "the connection ends" {
				fake.WaitFor(t, "it to be taken", func() bool { return b.working.Rules[0].InMemory() == 1 || b.working.Rules[0].InSpool() == 2 })
				b.connect(false)
				if b.working.Rules[0].PendingNow() != 0 {
					t.Error("in memory still")
				}
			}
			fake.WaitFor(t, "it on disk", func() bool { return b.working.Rules[0].InSpool() == 2 })
			b.connect(true)
			got := p.Deliver(t, first+1)
			if got[first] != "t last" || len(got) != first+1 {
				t.Errorf("published %d, the last %q", len(got), got[len(got)-1])
			}
		})
	}
}

// Whatever connections and acknowledgements do: what is on disk when the program is
// killed, and what the broker had by then, is all there was, in its order.
func TestAKillAtAnyTimeLosesNothingAndKeepsTheOrder(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			dir := t.TempDir()
			rule := fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")
			b, n, p := spooling(t, dir, 1<<20, rigOptions{QueueSize: 64 << 10}, nil, rule)
			b.connect(true)
			said := 0
			var has []string // the broker
			for range 150 {
				switch r.IntN(8) {
				default:
					n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(said), fmt.Sprint(said+1))
					said += 2
				case 0:
					b.connect(true)
				case 1:
					if r.IntN(3) == 0 {
						p.Rescue()
						b.connect(false)
					}
				case 2:
					p.Rescue()
				case 3, 4:
					has = append(has, p.AcknowledgeSome(r.IntN(40))...)
				}
				time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
			}
			fake.WaitFor(t, "all to be heard", func() bool { return b.Status().Receive[0].Received == uint64(said) })
			b.connect(false)
			p.Rescue()
			fake.WaitFor(t, "the disk", func() bool {
				return b.working.Rules[0].InMemory() == 0 && b.options.Spool.On.Undecided() == 0
			})
			if drops := b.Status().Receive[0].Drops; drops != nil {
				t.Fatalf("drops %v", drops)
			}
			for i, line := range p.Published() {
				if line != fmt.Sprint("t ", i) {
					t.Fatalf("the session was given %q in place of %d", line, i)
				}
			}
			if err := b.options.Spool.On.Close(); err != nil {
				t.Fatal(err)
			}
			next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, rule)
			next.connect(true)
			fake.WaitFor(t, "the rest", func() bool { p.Acknowledge(); return next.options.Spool.On.Len() == 0 })
			first := 0
			for _, line := range append(has, p.Published()...) {
				var i int
				if _, err := fmt.Sscanf(line, "t %d", &i); err != nil {
					t.Fatal(err)
				}
				if i > first {
					t.Fatalf("%d before %d", i, first)
				} else if i == first {
					first++
				}
			}
			if first != said {
				t.Errorf("%d of %d arrived", first, said)
			}
		})
	}
}

// The copy of a message that the broker does not take stays until that is kept elsewhere: a
// kill in between must not lose it.
func TestTheCopyOfAMessageThatIsGivenUpStaysUntilItIsKept(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	p.Await(t, 2)
	p.Rescue()
	b.onDisk(t, 2)
	for i, payload := range []string{"1", "2"} {
		p.Origins[i].(session.Refuser).Refused(&session.Publication{Topic: []byte("t"), Payload: []byte(payload)}, session.ErrRefused)
		p.Origins[i].Lost(1, 1, session.ErrRefused)
	}
	if got := b.working.Rules[0].UnneededCopies(); got > 0 {
		t.Fatalf("%d copies may go", got)
	}
	b.keep[1]()
	if got := b.working.Rules[0].UnneededCopies(); got > 0 {
		t.Fatalf("%d copies may go, and the first is not kept", got)
	}
	b.onDisk(t, 2)
	b.keep[0]()
	b.onDisk(t, 0)
	if diff := cmp.Diff([]string{"r t 1", "r t 2"}, b.refused); diff != "" {
		t.Error(diff)
	}
}
