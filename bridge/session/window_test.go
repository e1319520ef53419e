package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// burst has the broker be given as many publications of QoS 2 as the window has, each of
// which it answers if it takes so many; else it closes the connection. It returns how many.
func (o *outbox) burst(t *testing.T, takes, beside int) (n int) {
	t.Helper()
	o.add(batchOf(2, &teller{}, make([]string, qos2Window)...))
	o.add(batchOf(1, &teller{}, make([]string, beside)...))
	f := &o.flows[1]
	o.mu.Lock()
	for i := range o.flows {
		o.flows[i].appendWritable(nil, 0, 1<<20, o.writableEnd(i), nil)
	}
	first := f.head
	n = int(f.next - f.head)
	o.mu.Unlock()
	if n > takes {
		o.shrink()
		o.mu.Lock()
		for i := range o.flows {
			o.flows[i].rewind()
		}
		o.mu.Unlock()
		return n
	}
	var answers []pubAck
	for i := range n {
		answers = append(answers, pubAck{typePubrec, 0, f.ids.of(first + uint64(i))}, pubAck{typePubcomp, 0, f.ids.of(first + uint64(i))})
	}
	if _, stray, err := o.acknowledge(answers, nil, func(uint16) error { return nil }); stray > 0 || err != nil {
		t.Fatalf("%d stray, %v", stray, err)
	}
	return n
}

// A window that became smaller because a broker went away with much in its hands is soon what
// it was; where the broker does take no more, one connection a day is spent on finding that at last.
func TestAWindowThatBecameSmallerGrowsAgain(t *testing.T) {
	for _, tt := range []struct{ takes, window, ends int }{{qos2Window, qos2Window, 1}, {7, 7, 14}, {1, 1, 14}} {
		t.Run(fmt.Sprint("takes=", tt.takes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutbox(100)
				if tt.takes == qos2Window {
					o.burst(t, qos2Window, 0)
					o.burst(t, 0, 1) // a restart
					if got := o.flows[1].poison.window; got != qos2Window-1 {
						t.Fatalf("the window is %d after a connection that ended with all of it unanswered", got)
					}
				}
				ends, last := 0, 0
				for range 4 * 24 * 12 { // four days, a burst every five minutes
					n := o.burst(t, tt.takes, 0)
					if n > tt.takes {
						ends++
					} else {
						last = n
					}
					time.Sleep(5 * time.Minute)
				}
				if last != tt.window || ends > tt.ends {
					t.Errorf("the window is %d after four days and %d connections, want %d and at most %d", last, ends, tt.window, tt.ends)
				}
			})
		})
	}
}

// The connection that we have ended ourselves, for the broker to repeat messages, is followed
// by the next one at once: who waits for these does not wait for a broker that rests.
func TestARepetitionWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		b.greet(false, 0)
		c.reached("connected", connected)
		for i := range 3 {
			began := time.Now()
			c.Repeat()
			b.greet(true, 0)
			c.reached("connected again", func(s State) bool { return s.Connects == i+2 })
			if took := time.Since(began); took > 0 {
				t.Errorf("it took %v", took)
			}
		}
	})
}

// Where both qualities of service are under suspicion one message is given to the broker
// alone, not one of each, whatever was written before.
func TestOneMessageAloneIsOneOfBothQoS(t *testing.T) {
	for _, written := range []uint64{0, 1} {
		o, c := newOutbox(10), new(mqttConn)
		o.add(append(batchOf(2, nil, "x", "y"), batchOf(1, nil, "x", "y")...))
		defer o.stop()
		o.mu.Lock()
		for i := range o.flows {
			o.flows[i].poison.window, o.flows[i].poison.alone = 1, true
		}
		o.flows[1].rewriteEnd = o.flows[1].head + written
		o.conn = c
		o.mu.Unlock()
		frames, _, _ := o.nextWrite(c, nil, nil)
		first, _, _, _ := publishParts(frames, new(form))
		if len(first) != len(frames) || frames[0]>>1&3 != 1 {
			t.Errorf("%d written before: % x", written, frames)
		}
	}
}

// What the broker takes of QoS 2 when it is given one message alone shows that it takes one at a
// time, however many others were written on connections before.
func TestAMessageAloneDoesNotProveAWindow(t *testing.T) {
	o := newOutbox(100)
	defer o.stop()
	o.add(on(2, &teller{}, 10, 10))
	f := &o.flows[1]
	o.mu.Lock()
	defer o.mu.Unlock()
	f.appendWritable(nil, 0, 1<<20, o.writableEnd(1), nil) // all; and the connection ends
	f.rewind()
	f.poison.window, f.poison.alone, f.poison.suspect, f.poison.others = 1, true, true, 8
	f.attached()
	n := f.next
	f.appendWritable(nil, 0, 1<<20, o.writableEnd(1), nil)
	if f.next != n+1 || n != f.head+9 {
		t.Fatalf("number %d to %d are written beside %d", n, f.next, f.head)
	}
	if got := f.at(n).awaiting; got != 1 {
		t.Errorf("its acknowledgement would prove that %d are taken at once", got)
	}
}
