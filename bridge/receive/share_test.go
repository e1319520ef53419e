package receive_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// A group that says much while the broker takes nothing fills what is for whoever comes
// first, and no other rule's part.
func TestAChattyGroupTakesNoOtherRulesRoom(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "chatty", "239.1.1.1:5000", "chatty"),
		fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "calm"),
	}
	receiving(t, rigOptions{QueueSize: 1 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		for i := range 200 {
			for range 100 {
				n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint("noise ", i))
			}
			n.At("239.1.1.2:5000", "iso0").Hear("172.17.0.8:1", fmt.Sprint("reading ", i))
		}
		synctest.Wait()
		s := b.Status().Receive
		if s[0].Drops["queue_full"] == 0 {
			t.Error("the chatty rule finds room for all: this test is none")
		}
		if s[1].Drops != nil {
			t.Errorf("the calm rule loses %v", s[1].Drops)
		}
		if s[0].WaitingBytes < 7*s[1].WaitingBytes || s[1].WaitingBytes == 0 {
			t.Errorf("%d and %d bytes are said to wait", s[0].WaitingBytes, s[1].WaitingBytes)
		}
	})
}

// Nor does one sender take all that a rule may have, where it hears others.
func TestANoisySenderLeavesRoomForTheOthersOfARule(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}
	receiving(t, rigOptions{QueueSize: 1 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		hear := func(source string, times int, payload string) {
			for range times {
				n.LastReceiver().Hear(source, payload)
			}
			synctest.Wait()
		}
		lost := func() uint64 { return b.Status().Receive[0].Drops["queue_full"] }
		hear("172.17.0.8:1", 1, "reading")
		hear(fake.Device, 20_000, "noise")
		noise := lost()
		if noise == 0 {
			t.Error("the noisy sender finds room for all: this test is none")
		}
		if hear("172.17.0.8:1", 500, "reading"); lost() != noise {
			t.Errorf("%d of 500 datagrams of another sender find no room", lost()-noise)
		}
		published := b.publisher().Acknowledge()
		if hear(fake.Device, 5000, "noise"); lost() != noise {
			t.Errorf("when the broker has taken %d messages, %d more find no room", published, lost()-noise)
		}
	})
}

// A sender that is the only one may have all.
func TestASenderThatIsAloneHasAllTheRoom(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}
	receiving(t, rigOptions{QueueSize: 1 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		const room = (1 << 20) / (1 + 1 + account.Overhead) // the topic, too
		for range room + 100 {
			n.LastReceiver().Hear(fake.Device, "x")
		}
		synctest.Wait()
		if got := len(b.publisher().Published()); got != room {
			t.Errorf("%d messages find room, want %d", got, room)
		}
	})
}

// However many rules listen to a group, a bounded number of messages is handed over at once,
// whole and in order.
func TestAGroupOfManyRulesIsHandedOverInPieces(t *testing.T) {
	var rules []mapping.ReceiveRule
	for i := range 300 {
		rules = append(rules, fake.ReceiveRule(t, fmt.Sprint(i), "239.1.1.1:5000", fmt.Sprintf("t/%d", i), func(r *mapping.ReceiveRule) { r.Encoding = fake.Encoding(t, "hex") }))
	}
	receiving(t, rigOptions{QueueSize: 64 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		most, next := 0, make(map[string]int)
		b.receive.PublishTo(publisherFunc(func(batch []session.Publication) {
			most = max(most, len(batch))
			for _, m := range batch {
				if want := fmt.Sprintf("%x", fmt.Sprint(next[string(m.Topic)])); string(m.Payload) != want {
					t.Fatalf("%s %s, want %s", m.Topic, m.Payload, want)
				}
				next[string(m.Topic)]++
			}
		}))
		var batch []multicast.Datagram
		for i := range multicast.MaxReceive {
			batch = append(batch, multicast.Datagram{Source: netip.MustParseAddrPort(fake.Device), Payload: []byte(fmt.Sprint(i))})
		}
		b.working.Reader(0).Handle(batch)
		if most > receive.MaxPublications || len(next) != len(rules) || next["t/299"] != len(batch) {
			t.Errorf("%d messages at once, %d topics, of the last one %d messages", most, len(next), next["t/299"])
		}
	})
}

// A reader that waits for the broker with messages of QoS 0 holds few of them, however many there are
// in a datagram: thousands of readers may wait.
func TestAReaderThatMayHaveToWaitHoldsLittle(t *testing.T) {
	const parts = 1000
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) {
		r.QoS, r.Split, r.Encoding = 0, mapping.SplitLine, fake.Encoding(t, "hex")
	})}
	for _, size := range []int{1, 60} {
		receiving(t, rigOptions{QueueSize: 64 << 20}, nil, rules, func(b *rig, n *fake.Network) {
			most, mostBytes, all := 0, 0, 0
			b.receive.PublishTo(publisherFunc(func(batch []session.Publication) {
				bytes := 0
				for i := range batch {
					bytes += len(batch[i].Payload)
				}
				most, mostBytes, all = max(most, len(batch)), max(mostBytes, bytes), all+len(batch)
			}))
			b.handle(0, strings.Repeat(strings.Repeat("x", size)+"\n", parts))
			if most > receive.MayBlock || mostBytes > receive.MayBlockEncoded || all != parts {
				t.Errorf("%d of %d messages at once, %d bytes", most, all, mostBytes)
			}
		})
	}
}

// What is made of long datagrams does not gather until all of a batch is made.
func TestEncodedPayloadsOfABatchTakeBoundedMemory(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "rule", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.Encoding = fake.Encoding(t, "hex") })}
	receiving(t, rigOptions{QueueSize: 64 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		var got []byte // what each begins with
		b.receive.PublishTo(publisherFunc(func(batch []session.Publication) {
			bytes := 0
			for _, m := range batch {
				bytes += len(m.Payload)
				first, err := hex.DecodeString(string(m.Payload[:2]))
				if err != nil || string(m.Payload) != strings.Repeat(string(m.Payload[:2]), 60_000) {
					t.Fatalf("%d bytes of another payload, %v", len(m.Payload), err)
				}
				got = append(got, first...)
			}
			if most := receive.MaxEncoded; bytes > most {
				t.Errorf("%d bytes are handed over at once, want %d at most", bytes, most)
			}
		}))
		var batch []multicast.Datagram
		var want []byte
		for i := range multicast.MaxReceive {
			batch = append(batch, multicast.Datagram{Source: netip.MustParseAddrPort(fake.Device), Payload: bytes.Repeat([]byte{byte(i)}, 60_000)})
			want = append(want, byte(i))
		}
		b.working.Reader(0).Handle(batch)
		if !bytes.Equal(got, want) {
			t.Errorf("carried: %v", got)
		}
	})
}

// twice is a socket that has something, and then is looked at whether that is let go of.
type twice struct {
	receive.Receiver
	first bool
	kept  int
}

func (s *twice) Receive(batch []multicast.Datagram) (int, error) {
	if s.first = !s.first; s.first {
		for i := range 3 {
			batch[i] = multicast.Datagram{Source: netip.MustParseAddrPort(fake.Device), Payload: []byte("x")}
		}
		return 3, nil
	}
	for i := range batch {
		s.kept += len(batch[i].Payload)
	}
	return 0, net.ErrClosed
}

// What a socket had is let go of while it waits for more: a long datagram may have memory of its
// own, and there are thousands of sockets.
func TestASocketThatWaitsKeepsNoDatagram(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "rule", "239.1.1.1:5000", "t")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		s := new(twice)
		b.working.Reader(0).Run(s)
		if got := len(b.publisher().Published()); got != 3 || s.kept > 0 {
			t.Errorf("%d of 3 are published, and %d bytes are kept", got, s.kept)
		}
	})
}

// A rule of QoS 0 that a slow broker holds up holds up no other group.
func TestARuleThatASlowBrokerHoldsUpHoldsUpNoOtherGroup(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "held", "239.1.1.1:5000", "held", func(r *mapping.ReceiveRule) { r.QoS = 0 }),
		fake.ReceiveRule(t, "other", "239.1.1.2:5000", "other"),
	}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		slow, release := new(fake.Publisher), make(chan struct{})
		b.receive.PublishTo(publisherFunc(func(batch []session.Publication) {
			if batch[0].QoS == 0 {
				<-release
			}
			slow.PublishBatch(batch)
		}))
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
		for range 10 {
			n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "2")
		}
		synctest.Wait()
		if got := len(slow.Published()); got != 10 {
			t.Errorf("%d of 10 messages of another rule are published meanwhile", got)
		}
		close(release)
		synctest.Wait()
		if got := len(slow.Published()); got != 11 {
			t.Errorf("%d messages are published in the end", got)
		}
	})
}

// Nor do senders that are made up, each with a datagram that has to wait for its time.
func TestForgedSendersThatWaitTakeNoOtherRulesRoom(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "flooded", "239.1.1.1:5000", "flooded/{source}", fake.Every(time.Hour)),
		fake.ReceiveRule(t, "calm", "239.1.1.2:5000", "calm/{source}", fake.Every(time.Hour)),
	}
	receiving(t, rigOptions{QueueSize: 1 << 20}, nil, rules, func(b *rig, n *fake.Network) {
		for i := range 20_000 {
			n.At("239.1.1.1:5000", "iso0").Hear(fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255), "first", "second")
		}
		for i := range 200 {
			n.At("239.1.1.2:5000", "iso0").Hear(fmt.Sprintf("172.17.0.%d:1", i), "first", "second")
		}
		synctest.Wait()
		if s := b.Status().Receive; s[1].Drops != nil {
			t.Errorf("the calm rule loses %v", s[1].Drops)
		}
	})
}
