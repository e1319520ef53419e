package session

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

func TestAHeldMessageHoldsBackLaterAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var held []Ack
		start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) {
			for i := range batch {
				if batch[i].Topic[0] == 'h' {
					batch[i].Hold = true
					held = append(held, batch[i].Ack)
				}
			}
		}}, b.use)
		p := b.greet(false, 0)
		p.send(publish(qos1, "a", 1, ""), publish(qos1, "h", 2, ""), publish(qos1, "b", 3, ""))
		p.send(publish(qos2, "h", 4, ""), publish(qos1, "c", 5, ""), publish(qos0, "h", 0, ""))
		check := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, p.acks()); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		check("two held", "PUBACK 1")
		held[1].Done()
		check("the later one released")
		held[0].Done()
		check("the earlier one released", "PUBACK 2", "PUBACK 3", "PUBREC 4", "PUBACK 5")
		held[0].Done()
		held[1].Done()
		held[2].Done() // of QoS 0
		Ack{}.Done()
		check("all released again")
		p.send(publish(qos1, "a", 2, ""))
		check("identifier reused", "PUBACK 2")
	})
}

// acks lists the acknowledgements that have come.
func (p *peer) acks() (got []string) {
	for len(p.in) > 0 {
		switch cp := p.next().(type) {
		case *packets.PubackPacket:
			got = append(got, fmt.Sprint("PUBACK ", cp.MessageID))
		case *packets.PubrecPacket:
			got = append(got, fmt.Sprint("PUBREC ", cp.MessageID))
		default:
			got = append(got, fmt.Sprint(cp))
		}
	}
	return got
}

func TestAcknowledgementsLeaveInOrderOfArrivalHoweverTheyAreReleased(t *testing.T) {
	const n = 5000
	b := newBroker(t)
	released := make(chan Ack, n)
	start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) {
		for i := range batch {
			if string(batch[i].Topic) == "end" {
				close(released)
			} else if rand.N(4) > 0 {
				batch[i].Hold = true
				released <- batch[i].Ack
			}
		}
	}})
	var wg sync.WaitGroup
	for range 4 { // each releases those it has gathered, in any order
		wg.Go(func() {
			var gathered []Ack
			for a := range released {
				gathered = append(gathered, a)
				if len(gathered) == 16 {
					rand.Shuffle(16, func(i, j int) { gathered[i], gathered[j] = gathered[j], gathered[i] })
					for _, a := range gathered {
						a.Done()
					}
					gathered = gathered[:0]
				}
			}
			for _, a := range gathered {
				a.Done()
			}
		})
	}
	p := b.greet(false, 0)
	var want []string
	go func() {
		for i := range n {
			flags, id := byte(qos1), uint16(i*7+1)
			if i%3 == 0 {
				flags = qos2
			}
			_, _ = p.Write(publish(flags, "t", id, "x"))
		}
		_, _ = p.Write(publish(qos1, "end", 65535, "x"))
	}()
	for i := range n {
		kind := "PUBACK "
		if i%3 == 0 {
			kind = "PUBREC "
		}
		want = append(want, fmt.Sprint(kind, uint16(i*7+1)))
	}
	want = append(want, "PUBACK 65535")
	var got []string
	for len(got) <= n {
		switch cp := p.next().(type) {
		case *packets.PubackPacket:
			got = append(got, fmt.Sprint("PUBACK ", cp.MessageID))
		case *packets.PubrecPacket:
			got = append(got, fmt.Sprint("PUBREC ", cp.MessageID))
		default:
			t.Fatalf("got %v", cp)
		}
	}
	wg.Wait()
	if !slices.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
}

func TestAnAckOfAnEarlierConnectionDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var held []Ack
		c := start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) {
			for i := range batch {
				batch[i].Hold = string(batch[i].Payload) == "hold"
				held = append(held, batch[i].Ack)
			}
		}}, b.use)
		p := b.greet(false, 0)
		p.send(publish(qos1, "t", 1, "hold"))
		c.messages(1)
		_ = p.Close()
		p = b.greet(true, 0)
		p.send(publish(qos1|dup, "t", 1, "hold")) // the broker sends it again
		if got := c.messages(2)[1]; !got.Dup {
			t.Error("the DUP flag is lost")
		}
		held[0].Done()
		synctest.Wait()
		if got := p.acks(); got != nil {
			t.Errorf("acknowledged by the Ack of another connection: %v", got)
		}
		held[1].Done()
		synctest.Wait()
		if diff := cmp.Diff([]string{"PUBACK 1"}, p.acks()); diff != "" {
			t.Error(diff)
		}
	})
}

// Some brokers send a message again on the same connection when its
// acknowledgement takes long.
func TestARepeatedMessageThatIsHeldIsHandedOnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var held Ack
		c := start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) {
			if string(batch[0].Payload) == "hold" {
				batch[0].Hold, held = true, batch[0].Ack
			}
		}}, b.use)
		p := b.greet(false, 0)
		p.send(publish(qos1, "t", 1, "hold"))
		time.Sleep(30 * time.Second)
		p.send(publish(qos1|dup, "t", 1, "hold"))
		p.send(publish(qos1, "t", 2, "next"))
		c.messages(2)
		held.Done()
		synctest.Wait()
		if diff := cmp.Diff([]string{"PUBACK 1", "PUBACK 2"}, p.acks()); diff != "" {
			t.Error(diff)
		}
		p.send(publish(qos1|dup, "t", 1, "a repetition after that is a new one"))
		if got := len(c.messages(3)); got != 3 {
			t.Errorf("%d messages", got)
		}
	})
}

func TestAsManyMessagesCanBeHeldAsThereAreIdentifiers(t *testing.T) {
	var done packetIDs
	a := newAcks(&done)
	for id := 1; id <= maxInFlight; id++ {
		if batch, err := a.admit([]Message{{QoS: 1, id: uint16(id)}}); err != nil || len(batch) != 1 {
			t.Fatalf("message %d: %v", id, err)
		}
	}
	if _, err := a.admit([]Message{{QoS: 1, id: 1}}); err == nil {
		t.Error("an identifier is in flight twice")
	}
	for seq := range uint64(maxInFlight) {
		Ack{a, maxInFlight - 1 - seq}.Done()
	}
	got := a.appendReady(nil)
	for i := range maxInFlight {
		if id := i + 1; got[4*i] != 0x40 || got[4*i+2] != byte(id>>8) || got[4*i+3] != byte(id) {
			t.Fatalf("acknowledgement %d: % x", i, got[4*i:4*i+4])
		}
	}
}

func TestAnAckThatIsDoneTwiceReleasesNoLaterMessage(t *testing.T) {
	var done packetIDs
	a := newAcks(&done)
	var acks []Ack
	for id := range len(a.slots) + 1 {
		batch, err := a.admit([]Message{{QoS: 1, id: uint16(id + 1)}})
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, batch[0].Ack)
		if id < len(a.slots) {
			batch[0].Ack.Done()
			a.appendReady(nil)
		}
	}
	acks[0].Done() // lay where the last one lies now
	if got := a.appendReady(nil); len(got) > 0 {
		t.Errorf("acknowledged % x", got)
	}
}

func TestABrokerThatAsksWithoutReadingIsBounded(t *testing.T) {
	for name, ask := range map[string]func(*acks, uint16) error{
		"PUBREL": func(a *acks, id uint16) error { _, err := a.completeQoS2(id); return err },
		"PUBREC": (*acks).replyPubrel,
	} {
		t.Run(name, func(t *testing.T) {
			var done packetIDs
			a := newAcks(&done)
			for id := range 10 * maxInFlight {
				if err := ask(a, uint16(id|1)); err != nil {
					if err != errUnread || len(a.replies) != maxReplies {
						t.Errorf("after %d bytes: %v", len(a.replies), err)
					}
					return
				}
			}
			t.Errorf("%d bytes of replies wait", len(a.replies))
		})
	}
}

// A message can be held for days, while the broker comes and goes.
func TestAMessageHeldOverManyConnectionsKeepsNoneOfThemAlive(t *testing.T) {
	var done packetIDs
	in := inbox{}
	var held Ack
	var last *acks
	const connections = 1000
	for n := range connections {
		a := newAcks(&done)
		a.carried = in.carried
		batch := []Message{{Topic: []byte("t"), QoS: 2, Dup: n > 0, id: 7, Hold: true}, {Topic: []byte("u"), QoS: 1, id: 8, Hold: true}}
		batch, err := a.admit(batch)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			held = batch[0].Ack
		} else if len(batch) != 1 {
			t.Fatalf("connection %d: handed on again", n)
		}
		a.markUnheldDone(batch)
		if last = a; n < connections-1 {
			in.carried = a.carry()
		}
	}
	alive := 1
	for a := held; len(a.acks.repeatedBy) > 0; alive++ {
		a = a.acks.repeatedBy[a.seq]
	}
	if alive != 2 {
		t.Errorf("%d connections are alive by it, want the first and the last", alive)
	}
	held.Done()
	if got := last.appendReady(nil); !bytes.Equal(got, []byte{typePubrec << 4, 2, 0, 7}) {
		t.Errorf("acknowledged % x on the last connection", got)
	}
}

func TestWhatIsHeldOfAConnectionThatIsOverIsFreed(t *testing.T) {
	var done packetIDs
	a := newAcks(&done)
	batch := make([]Message, 1000)
	for i := range batch {
		batch[i] = Message{Topic: []byte("t"), QoS: 1, id: uint16(i + 1), Hold: true}
	}
	if _, err := a.admit(batch); err != nil {
		t.Fatal(err)
	}
	if carried := a.carry(); len(carried) > 0 || a.slots != nil || a.inFlight != nil {
		t.Errorf("%d slots are kept", len(a.slots))
	}
	for i := range batch {
		batch[i].Ack.Done()
		batch[i].Ack.Redeliver()
	}
}

// It is asked for each repetition, of which a broker can send as many as it likes.
func TestAnAckThatLeavesBeforeItsBatchIsDoneIsNotInFlight(t *testing.T) {
	var done packetIDs
	a := newAcks(&done)
	batch, _ := a.admit([]Message{{Topic: []byte("t"), QoS: 1, id: 1, Hold: true}})
	batch[0].Ack.Done()
	a.appendReady(nil)
	a.markUnheldDone(batch)
	again, _ := a.admit([]Message{{Topic: []byte("t"), QoS: 1, id: 1, Dup: true}})
	if len(again) != 1 {
		t.Error("a later message is taken for its repetition")
	}
}

func TestDrainKeepsMessagesAtTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var held Ack
		c := start(t, Options{URLs: []string{b.url()}, Handle: func(batch []Message) { batch[0].Hold, held = true, batch[0].Ack }}, b.use)
		p := b.greet(false, 0)
		p.send(publish(qos1, "t", 1, "in hand"))
		c.messages(1)
		c.Drain()
		p.send(publish(qos1, "t", 2, "later"))
		synctest.Wait()
		held.Done()
		c.stop()
		if diff := cmp.Diff([]string{"PUBACK 1", "DISCONNECT: dup: false qos: 0 retain: false rLength: 0"}, p.acks()); diff != "" {
			t.Error(diff)
		}
		if n := c.State().Received; n != 1 {
			t.Errorf("%d messages handed on", n)
		}
	})
}

func TestAfterTheEndNothingIsHandedOnNorAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		var held Ack
		c := start(t, Options{URLs: []string{b.url()}, Status: &Status{"s"}, Handle: func(batch []Message) { batch[0].Hold, held = true, batch[0].Ack }}, b.use)
		p := b.greet(false, 0)
		status := func() {
			m := expect[*packets.PublishPacket](p)
			p.send(frame(0x40, byte(m.MessageID>>8), byte(m.MessageID)))
		}
		status()
		p.send(publish(qos1, "t", 1, "held"))
		c.messages(1)
		stopped := make(chan struct{})
		go func() { c.stop(); close(stopped) }()
		synctest.Wait()
		p.send(publish(qos1, "t", 2, "too late"))
		status()
		expect[*packets.DisconnectPacket](p)
		held.Done() // [MQTT-3.14.4-2]
		p.send(publish(qos1, "t", 3, "later still"))
		synctest.Wait()
		if got := p.acks(); got != nil || c.State().Received != 1 {
			t.Errorf("acknowledged %v, received %d", got, c.State().Received)
		}
		// What is still on its way is read, lest the connection be reset.
		select {
		case <-stopped:
			t.Error("closed while the broker was still sending")
		default:
		}
		begin := time.Now()
		_ = p.Close()
		<-stopped
		if d := time.Since(begin); d > 0 {
			t.Errorf("ended %v after the broker had closed", d)
		}
	})
}
