package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// swallows is a broker that lets some acknowledgements not leave. Everything else is as with one
// that is well.
func swallows(t *testing.T, o Options, swallowed func(p packets.ControlPacket) bool) (*sickBroker, *client) {
	b := &sickBroker{broker: newPipeBroker(t), swallowed: swallowed}
	go b.serve()
	o.URLs = []string{b.url()}
	return b, start(t, o, b.use)
}

// A broker that acknowledges nothing any more, or one message not, is connected to anew; one that
// goes on with it seldom.
func TestABrokerThatSwallowsAcknowledgementsIsConnectedToAnew(t *testing.T) {
	for _, tt := range []struct {
		name     string
		qos      byte
		once     bool // one acknowledgement is lost, on the first connection
		pubcomp  bool // that of PUBREL
		least    int  // connects in an hour
		connects int
	}{
		{"all of QoS 1", 1, false, false, 5, 7},
		{"one of QoS 1", 1, true, false, 2, 2},
		{"all of QoS 2", 2, false, false, 5, 7},
		{"one PUBREC", 2, true, false, 2, 2},
		{"one PUBCOMP", 2, true, true, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, ours := 0, make(map[uint16]bool)
				b, c := swallows(t, Options{GiveUpAfter: 3, MaxInFlight: 10}, func(cp packets.ControlPacket) bool {
					_, release := cp.(*packets.PubrelPacket)
					if !release {
						ours[cp.Details().MessageID] = true
					}
					if release != tt.pubcomp || !ours[cp.Details().MessageID] { // else of an earlier process
						return false
					}
					n++
					return !tt.once || n == 1
				})
				o := &teller{}
				time.Sleep(time.Minute)
				c.PublishBatch(on(tt.qos, o, 3, 30))
				begin := time.Now()
				var told time.Duration
				for c.State().Connects == 1 && time.Since(begin) < time.Hour {
					if since := c.State().AcksSince; told == 0 && !since.IsZero() {
						told = time.Since(since)
					}
					time.Sleep(time.Second)
				}
				if d := time.Since(begin); d < 60*time.Second || d > 90*time.Second {
					t.Errorf("noticed after %v", d)
				}
				if told == 0 || told > 2*ackLook {
					t.Errorf("the state tells after %v", told)
				}
				synctest.Wait()
				if lines := c.log.lines("acknowledges no messages"); len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], " are on their way") {
					t.Errorf("%q in:\n%s", lines, c.log)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := b.since(); got < tt.least || got > tt.connects {
					t.Errorf("%d connects in an hour", got)
				}
				if since := c.State().AcksSince; tt.once == !since.IsZero() {
					t.Errorf("no acknowledgements since %v", since)
				}
				if tt.once && o.count() != 30 {
					t.Errorf("told of %d", o.count())
				}
				if told := strings.Join(o.told(), ";"); strings.Contains(told, "lost") {
					t.Error(told)
				}
			})
		})
	}
}

// A connection that is new is given its time, whatever was on the one before.
func TestTheTimeForAcknowledgementsBeginsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := swallows(t, Options{}, func(packets.ControlPacket) bool { return true })
		c.PublishBatch(on(1, &teller{}, 3, 30))
		const ends = 10
		for range ends {
			time.Sleep(ackPatience*ackLook - 2*time.Second)
			c.Repeat()
		}
		synctest.Wait()
		if n := b.since(); n != 1+ends {
			t.Errorf("%d connects", n)
		}
		if since := c.State().AcksSince; time.Since(since) < ends*30*time.Second {
			t.Errorf("no acknowledgements since %v", since)
		}
	})
}

// Who acknowledges slowly, or has nothing to acknowledge, is left alone.
func TestABrokerThatAcknowledgesSlowlyIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 1}, b.use)
		p := b.greet(false, 0)
		o := &teller{}
		c.PublishBatch(on(1, o, 3, 20))
		for range 20 {
			m := expect[*packets.PublishPacket](p)
			time.Sleep(ackLook*ackPatience - time.Second)
			p.reply(typePuback, m.MessageID)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := c.State(); s.Connects != 1 || !s.Connected || o.count() != 20 || !s.AcksSince.IsZero() {
			t.Errorf("told of %d, state %+v:\n%s", o.count(), s, c.log)
		}
	})
}
