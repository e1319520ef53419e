package session

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// keeper is an Origin that keeps copies of what it is asked to, but for one payload.
// Another Origin is told of those.
type keeper struct {
	teller
	copies teller

	keeping sync.Mutex
	kept    []string
	refuse  string // no copy of it now
	never   string // nor ever of this
	asked   int
}

func (k *keeper) Rescue(p *Publication) (Origin, bool) {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	k.asked++
	switch payload := string(p.Payload); {
	case payload != "" && payload == k.refuse:
		return nil, false
	case payload != "" && payload == k.never:
		return k, true
	}
	line := string(p.Topic) + "=" + string(p.Payload)
	if p.Retain {
		line += " retain"
	}
	k.kept = append(k.kept, line+" "+string('0'+rune(p.QoS)))
	return &k.copies, true
}

// rescued gives what was kept since the last call.
func (k *keeper) rescued() (kept []string) {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	kept, k.kept = k.kept, nil
	return kept
}

func TestWhatTheBrokerHasNotAtTheEndCanBeRescued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 3}, b.use)
		o := &keeper{refuse: "r"}
		long := strings.Repeat("p", 300) // its length takes two bytes in the frame
		batch := batchOf(1, o, "a", "b", "", "r")
		batch = append(batch, Publication{Topic: []byte("long/topic"), Payload: []byte(long), QoS: 2, Retain: true, Origin: o})
		c.PublishBatch(batch)
		p := b.greet(false, 0)
		ids := p.published("t=a 1", "t=b 1", "t= 1")
		p.reply(typePuback, ids["b"]) // the broker has it, though not its turn
		synctest.Wait()
		c.stop()
		equal(t, "told", o.told, "published 1, 2 bytes", "lost 1, 2 bytes: "+ErrStopped.Error())
		equal(t, "told of the copies", o.copies.told,
			"lost 1, 2 bytes: "+ErrStopped.Error(), "lost 1, 1 bytes: "+ErrStopped.Error(), "lost 1, 310 bytes: "+ErrStopped.Error())
		equal(t, "rescued", o.rescued, "t=a 1", "t= 1", "long/topic="+long+" retain 2")
		if n := c.Outstanding(); n != 0 {
			t.Errorf("%d outstanding", n)
		}
	})
}

// What a kill would take is copied as soon as the connection is gone: what was
// written and what was not, but for what the broker has. The session publishes it
// again all the same, as the same message.
func TestWhatTheBrokerHasNotIsCopiedWhenTheConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 5}, b.use)
		o, other := &keeper{}, &teller{}
		p := b.greet(false, 0)
		c.reached("connected", connected)
		c.PublishBatch(append(batchOf(1, o, "1", "2", "3"), batchOf(2, o, "4", "5")...))
		ids := p.published("t=1 1", "t=2 1", "t=3 1", "t=4 2", "t=5 2")
		c.PublishBatch(append(batchOf(1, o, "6"), batchOf(1, other, "7")...)) // for which there is no room in the window
		p.reply(typePuback, ids["3"])                                         // though not its turn
		p.reply(typePubrec, ids["4"])                                         // whose PUBREL is still to be answered
		synctest.Wait()
		if got := o.rescued(); got != nil {
			t.Errorf("copied %q while the broker answers", got)
		}
		_ = p.Close()
		equal(t, "copied", o.rescued, "t=1 1", "t=2 1", "t=6 1", "t=4 2", "t=5 2")
		p = b.greet(true, 0)
		if diff := cmp.Diff([]string{"Pubrel", "t=5 2 dup", "Pubrel", "t=1 1 dup", "t=2 1 dup", "t=6 1", "t=7 1"}, p.takeAll(func(got []string) bool { return slices.Contains(got, "t=7 1") })); diff != "" {
			t.Error(diff)
		}
		equal(t, "told", o.told, "published 1, 2 bytes")
		equal(t, "told of the copies", o.copies.told, slices.Repeat([]string{"published 1, 2 bytes"}, 5)...)
		_ = p.Close()
		b.greet(true, 0)
		synctest.Wait()
		if got := o.rescued(); got != nil {
			t.Errorf("copied %q once more", got)
		}
	})
}

// takeAll takes what comes, and answers it, until that is enough.
func (p *peer) takeAll(enough func([]string) bool) (got []string) {
	p.t.Helper()
	for !enough(got) {
		switch cp := p.next().(type) {
		case *packets.PublishPacket:
			got = append(got, show(cp))
			p.reply([]byte{typePuback, typePubrec}[cp.Qos-1], cp.MessageID)
		case *packets.PubrelPacket:
			got = append(got, "Pubrel")
			p.reply(typePubcomp, cp.MessageID)
		default:
			p.t.Fatalf("got %T %v", cp, cp)
		}
	}
	return got
}

// At the end a message of QoS 2 whose PUBREL the broker may not have is none that
// it has.
func TestWhatTheBrokerHasNotLetGoAtTheEndIsRescued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		o := &keeper{}
		p := b.greet(false, 0)
		c.reached("connected", connected)
		c.PublishBatch(batchOf(2, o, "a", "b"))
		ids := p.published("t=a 2", "t=b 2")
		p.reply(typePubrec, ids["a"])
		p.reply(typePubrec, ids["b"])
		synctest.Wait()
		p.reply(typePubcomp, ids["b"]) // though not its turn
		synctest.Wait()
		c.stop()
		equal(t, "rescued", o.rescued, "t=a 2")
		equal(t, "told of the copy", o.copies.told, "lost 1, 2 bytes: "+ErrStopped.Error())
		equal(t, "told", o.told, "published 1, 2 bytes")
	})
}

// A copy that cannot be made now is made later, and those behind it after it.
func TestACopyThatCannotBeMadeIsMadeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		o := &keeper{refuse: "2", never: "3"}
		p := b.greet(false, 0)
		c.reached("connected", connected)
		c.PublishBatch(batchOf(1, o, "1", "2", "3", "4"))
		p.published("t=1 1", "t=2 1", "t=3 1", "t=4 1")
		_ = p.Close()
		equal(t, "copied", o.rescued, "t=1 1")
		o.keeping.Lock()
		o.refuse = ""
		o.keeping.Unlock()
		p = b.greet(true, 0)
		p.published("t=1 1 dup", "t=2 1 dup", "t=3 1 dup", "t=4 1 dup")
		_ = p.Close()
		equal(t, "copied", o.rescued, "t=2 1", "t=4 1")
		p = b.greet(true, 0)
		_ = p.Close()
		p = b.greet(true, 0)
		p.takeAll(func(got []string) bool { return len(got) == 4 })
		equal(t, "told", o.told, "published 1, 2 bytes")
		equal(t, "told of the copies", o.copies.told, "published 1, 2 bytes", "published 1, 2 bytes", "published 1, 2 bytes")
		if o.asked != 5 { // 2 twice
			t.Errorf("asked %d times", o.asked)
		}
	})
}

// On a line that died without a word, and from a broker that stands still, what is not
// acknowledged in time is copied, and what finds no room in the window as well.
func TestWhatIsAcknowledgedLateIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 3}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		o := &keeper{}
		var want []string
		for i := range 12 {
			c.PublishBatch(batchOf(1+byte(i%2), o, fmt.Sprint(i)))
			time.Sleep(100 * time.Millisecond)
		}
		kept := o.rescued()
		if n := len(kept); n < 2 || n > 5 {
			t.Errorf("after 1.2 s copied are %q, want those that are 750 ms to 1 s old, and older", kept)
		}
		time.Sleep(time.Second)
		kept = append(kept, o.rescued()...)
		for i := range 12 {
			want = append(want, fmt.Sprint("t=", i, " ", 1+i%2))
		}
		byQoS := func(lines []string, qos string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasSuffix(line, qos) })
		}
		for _, qos := range []string{" 1", " 2"} {
			if diff := cmp.Diff(byQoS(want, qos), byQoS(kept, qos)); diff != "" {
				t.Errorf("copied, of QoS%s: %s", qos, diff)
			}
		}
		if o.asked != 12 {
			t.Errorf("asked %d times", o.asked)
		}
		p.takeAll(func([]string) bool { return o.copies.count() == 12 || !more(p) })
		equal(t, "told", o.told)
		if n := o.copies.count(); n != 12 {
			t.Errorf("told of %d copies", n)
		}
	})
}

// more waits until nothing moves, and reports whether something came.
func more(p *peer) bool {
	synctest.Wait()
	return len(p.in) > 0
}

// A broker that answers costs no copy, however much there is.
func TestWhatIsAcknowledgedInTimeIsNotCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		o := &keeper{}
		waiting := []*packets.PublishPacket{}
		for i := range 100 {
			c.PublishBatch(batchOf(1, o, fmt.Sprint(i)))
			waiting = append(waiting, expect[*packets.PublishPacket](p))
			if len(waiting) > 7 { // 700 ms
				p.reply(typePuback, waiting[0].MessageID)
				waiting = waiting[1:]
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, m := range waiting[:7] {
			p.reply(typePuback, m.MessageID)
		}
		synctest.Wait()
		if o.asked > 0 {
			t.Errorf("copied %q", o.rescued())
		}
	})
}

// While nothing is on its way nothing is looked for, nor while there is a copy of all.
func TestNothingIsLookedForWhereThereIsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		p := b.greet(false, 0)
		c.reached("connected", connected)
		looks := func() bool {
			c.outbox.mu.Lock()
			defer c.outbox.mu.Unlock()
			return c.outbox.watching
		}
		o := &keeper{refuse: "2"}
		for i := range 4 {
			if looks() {
				t.Errorf("%d: looks", i)
			}
			c.PublishBatch(batchOf(1, o, fmt.Sprint(i)))
			if !looks() {
				t.Errorf("%d: does not look", i)
			}
			m := expect[*packets.PublishPacket](p)
			switch i {
			case 0:
				p.reply(typePuback, m.MessageID)
			case 2:
				time.Sleep(30 * time.Second)
				if !looks() || o.asked < 100 {
					t.Errorf("asked %d times for what could not be copied", o.asked)
				}
				o.keeping.Lock()
				o.refuse = ""
				o.keeping.Unlock()
			}
			time.Sleep(1100 * time.Millisecond)
		}
		equal(t, "copied", o.rescued, "t=1 1", "t=2 1", "t=3 1")
		o.keeping.Lock()
		was := o.asked
		o.keeping.Unlock()
		time.Sleep(20 * time.Second)
		if o.asked != was || looks() {
			t.Error("looks on")
		}
	})
}
