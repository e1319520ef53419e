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
)

// statusBroker closes connections over the status topic, or refuses a will, as it is told to.
type statusBroker struct {
	*broker

	mu      sync.Mutex
	forbids bool                             // to publish the status
	refuses func(*packets.ConnectPacket) int // the return code; -1: it closes the connection; nil: it accepts
	wills   []bool                           // whether each CONNECT had one
	got     []string                         // topic and payload of what it took
}

func (b *statusBroker) serve() {
	ctx := b.t.Context()
	for {
		select {
		case conn := <-b.conns:
			p := &peer{t: b.t, Conn: conn, in: make(chan packets.ControlPacket, 1<<10)}
			go p.readAll()
			go p.obey(b.ends(p))
		case <-ctx.Done():
			return
		}
	}
}

// ends judges what comes on a connection: whether that ends it.
func (b *statusBroker) ends(p *peer) func(packets.ControlPacket) bool {
	return func(cp packets.ControlPacket) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch m := cp.(type) {
		case *packets.ConnectPacket:
			b.wills = append(b.wills, m.WillFlag)
			if b.refuses == nil {
				return false
			}
			code := b.refuses(m)
			if code > 0 {
				_, _ = p.Write(connack(false, byte(code)))
			}
			return code != 0
		case *packets.PublishPacket:
			if m.TopicName == "s/1" && b.forbids {
				return true
			}
			b.got = append(b.got, m.TopicName+" "+string(m.Payload))
		}
		return false
	}
}

func (b *statusBroker) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// since is what has come since the last call.
func (b *statusBroker) since() (wills []bool, got []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wills, got = b.wills, b.got
	b.wills, b.got = nil, nil
	return wills, got
}

func startStatus(t *testing.T, forbids bool, refuses func(*packets.ConnectPacket) int) (*statusBroker, *client) {
	b := &statusBroker{broker: newPipeBroker(t), forbids: forbids, refuses: refuses}
	go b.serve()
	return b, start(t, Options{URLs: []string{b.url()}, Status: &Status{"s/1"}, Subscriptions: manyFilters(5), GiveUpAfter: 3}, b.use)
}

const leftOutText = "online and offline are told to nobody"

// Where the broker closes the connection over the status, all else goes on without it soon, and
// it is told again when that is allowed.
func TestAStatusThatTheBrokerDoesNotTakeIsLeftOut(t *testing.T) {
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprint("allowed before: ", before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := startStatus(t, !before, nil)
				if before {
					time.Sleep(2 * stableLife)
					b.set(func() { b.forbids = true })
					b.since()
					c.Repeat()
				}
				k := &teller{}
				c.PublishBatch(batchOf(1, k, "a", "b"))
				time.Sleep(20 * time.Second)
				wills, got := b.since()
				if most := 4; len(wills) > most+1 || wills[len(wills)-1] {
					t.Errorf("%d connections, want %d at most, the last of them without a will: %v", len(wills), most, wills)
				}
				if !c.State().Connected || k.count() != 2 || len(got) < 2 {
					t.Errorf("connected: %v, told of %d, the broker has %q\n%s", c.State().Connected, k.count(), got, c.log)
				}
				if lines := c.log.lines(leftOutText); len(lines) != 1 || !strings.Contains(lines[0], "topic=s/1") {
					t.Fatalf("%q in:\n%s", lines, c.log)
				}
				if !slices.ContainsFunc(c.endings(), func(text string) bool { return strings.Contains(text, `allows publishing to "s/1"`) }) {
					t.Errorf("%q", c.endings())
				}
				time.Sleep(statusAgain - time.Minute)
				if wills, _ := b.since(); len(wills) > 0 {
					t.Errorf("%d connections within the hour", len(wills))
				}
				time.Sleep(2 * time.Minute) // tried again
				if wills, _ := b.since(); !slices.Equal(wills, []bool{false}) || !c.State().Connected {
					t.Errorf("connections when it was tried again: %v", wills)
				}
				b.set(func() { b.forbids = false })
				time.Sleep(statusAgain)
				wills, got = b.since()
				if !slices.Equal(wills, []bool{true}) || !slices.Equal(got, []string{"s/1 online", "s/1 online"}) {
					t.Errorf("allowed again: connections %v, told %q\n%s", wills, got, c.log)
				}
				if lines := c.log.lines(leftOutText); len(lines) != 1 || len(c.log.lines("takes the status again")) != 1 {
					t.Errorf("%q in:\n%s", lines, c.log)
				}
			})
		})
	}
}

// A reload tries a status that was left out at once.
func TestAReloadTriesTheStatusAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := startStatus(t, true, nil)
		time.Sleep(time.Minute)
		b.set(func() { b.forbids = false })
		b.since()
		if err := c.SetSubscriptions(manyFilters(5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if wills, got := b.since(); !slices.Equal(wills, []bool{true}) || !slices.Equal(got, []string{"s/1 online", "s/1 online"}) {
			t.Errorf("connections %v, told %q\n%s", wills, got, c.log)
		}
		c.stop()
		if _, got := b.since(); !slices.Equal(got, []string{"s/1 offline"}) {
			t.Errorf("told %q at the end", got)
		}
	})
}

// Where the broker refuses a CONNECT for its will, or closes the connection over it, the session
// is there without one, and says nothing on that topic: online would stand there for good.
func TestAWillThatTheBrokerDoesNotTakeIsLeftOut(t *testing.T) {
	for _, code := range []int{5, -1} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, c := startStatus(t, false, func(m *packets.ConnectPacket) int {
					if m.WillFlag {
						return code
					}
					return 0
				})
				time.Sleep(20 * time.Second)
				if wills, got := b.since(); !slices.Equal(wills, []bool{true, true, false}) || len(got) > 0 || !c.State().Connected {
					t.Errorf("connections %v, told %q\n%s", wills, got, c.log)
				}
				if lines := c.log.lines(leftOutText); len(lines) != 1 || !strings.Contains(lines[0], "will") {
					t.Fatalf("%q in:\n%s", lines, c.log)
				}
				time.Sleep(statusAgain)
				if wills, got := b.since(); !slices.Equal(wills, []bool{true, false}) || len(got) > 0 || !c.State().Connected {
					t.Errorf("connections when it was tried again: %v, told %q", wills, got)
				}
				b.set(func() { b.refuses = nil })
				time.Sleep(statusAgain)
				if wills, got := b.since(); !slices.Equal(wills, []bool{true}) || !slices.Equal(got, []string{"s/1 online"}) {
					t.Errorf("allowed again: connections %v, told %q", wills, got)
				}
				if lines := c.log.lines(leftOutText); len(lines) != 1 || len(c.log.lines("takes the status again")) != 1 {
					t.Errorf("%q in:\n%s", lines, c.log)
				}
			})
		})
	}
}

// A broker that refuses everybody is asked little more than before, and once it accepts us has
// the will.
func TestABrokerThatRefusesAllCostsNoWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := startStatus(t, false, func(*packets.ConnectPacket) int { return 5 })
		time.Sleep(time.Hour)
		wills, _ := b.since()
		if bare := len(slices.DeleteFunc(slices.Clone(wills), func(will bool) bool { return will })); bare < 5 || bare > 12 {
			t.Errorf("%d of %d connects were without a will", bare, len(wills))
		}
		b.set(func() { b.refuses = nil })
		time.Sleep(time.Minute)
		if wills, got := b.since(); !slices.Equal(wills, []bool{true}) || !slices.Equal(got, []string{"s/1 online"}) {
			t.Errorf("connections %v, told %q", wills, got)
		}
		if lines := c.log.lines(leftOutText); len(lines) > 0 {
			t.Error(lines)
		}
	})
}

// A session whose status is left out does not end with it either.
func TestAStatusThatIsLeftOutIsNotToldAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := startStatus(t, true, nil)
		time.Sleep(time.Minute)
		b.set(func() { b.forbids = false })
		b.since()
		c.stop()
		if _, got := b.since(); len(got) > 0 {
			t.Errorf("told %q", got)
		}
	})
}
