package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

func TestTheEndTellsOfAllThatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 3}, b.use)
		o := &teller{}
		c.PublishBatch(batchOf(1, o, "a", "b", "c", "d"))
		p := b.greet(false, 0)
		ids := p.published("t=a 1", "t=b 1", "t=c 1")
		p.reply(typePuback, ids["b"]) // the broker has it, though not its turn
		synctest.Wait()
		c.stop()
		equal(t, "at the end", o.told, "lost 1, 2 bytes: "+ErrStopped.Error(), "published 1, 2 bytes", "lost 2, 4 bytes: "+ErrStopped.Error())
		c.PublishBatch(append(batchOf(0, o, "x"), batchOf(1, o, "y", "z")...))
		if got := o.told(); len(got) != 3 || c.Outstanding() != 0 {
			t.Errorf("after the end %v, %d outstanding", got, c.Outstanding())
		}
		if err := c.Publish(context.Background(), "t", nil, 0, false); !errors.Is(err, ErrNotConnected) {
			t.Error(err)
		}
	})
}

func TestTheFarewellGoesBehindWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s"}}, b.use)
		p := b.acceptSilent()
		hear := func() packets.ControlPacket {
			cp, err := packets.ReadPacket(p)
			if err != nil {
				t.Fatal(err)
			}
			return cp
		}
		hear()
		p.send(connack(false, 0))
		p.reply(typePuback, hear().(*packets.PublishPacket).MessageID)
		c.reached("connected", connected)
		synctest.Wait()
		go c.PublishBatch(batchOf(0, nil, "first")) // stands in the write from now on
		synctest.Wait()
		c.PublishBatch(append(batchOf(1, nil, "a", "b"), batchOf(0, nil, "c")...))
		go c.stop()
		synctest.Wait()
		var got []string
		for {
			cp := hear()
			if m, ok := cp.(*packets.PublishPacket); ok {
				got = append(got, show(m))
				if m.MessageID == offlineID {
					p.reply(typePuback, m.MessageID)
				}
				continue
			}
			got = append(got, fmt.Sprintf("%T", cp))
			break
		}
		want := []string{"t=first 0", "t=c 0", "t=a 1", "t=b 1", "s=offline 1 retain", "*packets.DisconnectPacket"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		_ = p.Close()
	})
}

// The will says what the broker was too slow to be told.
func TestABrokerTooSlowForTheFarewellIsLeftToItsWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s"}}, b.use)
		p := b.acceptSilent()
		hear := func() packets.ControlPacket {
			cp, err := packets.ReadPacket(p)
			if err != nil {
				return nil
			}
			return cp
		}
		hear()
		p.send(connack(false, 0))
		p.reply(typePuback, hear().(*packets.PublishPacket).MessageID)
		c.reached("connected", connected)
		synctest.Wait()
		o := &teller{}
		var long []string
		for range 10 {
			long = append(long, strings.Repeat("x", piece))
		}
		go c.PublishBatch(batchOf(1, o, long...))
		synctest.Wait()
		go c.stop()
		for i := range 4 { // one a second, where there are ten
			time.Sleep(time.Second)
			cp := hear()
			if m, ok := cp.(*packets.PublishPacket); i < 2 && !ok || ok && m.TopicName != "t" {
				t.Errorf("got %v", cp)
			}
			if _, ok := cp.(*packets.DisconnectPacket); ok {
				t.Error("DISCONNECT without a farewell: the will is discarded")
			}
		}
		synctest.Wait()
		if o.n != 10 {
			t.Errorf("told of %d", o.n)
		}
	})
}

// It may be busy with something else when it is to end.
func TestTheEndIsBoundedWhileSubscriptionsAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "a", QoS: 1}}}, b.use)
		p := b.acceptConnect() // and reads nothing any more
		p.send(connack(false, 0))
		c.reached("connected", connected)
		synctest.Wait()
		go c.PublishBatch(batchOf(0, nil, "x"))
		synctest.Wait()
		began := time.Now()
		c.stop()
		if took := time.Since(began); took > LeaveTimeout+10*time.Millisecond {
			t.Errorf("took %v", took)
		}
		_ = p.Close()
	})
}
