package receive_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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
