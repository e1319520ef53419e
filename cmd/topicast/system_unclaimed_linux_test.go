package main

import (
	"fmt"
	"net"
	"testing"
)

// Unicast to a receive rule's port is not for the rule, and yet leaves a trace. The
// port stays free for whoever wants to have it, with no option at all.
func TestWhatComesToAPortButNotToItsGroupIsCounted(t *testing.T) {
	s := newReceiver(t, "  - { name: meters, group: '239.1.1.1:5000', interface: iso0, topic: meters }\n")
	s.startAll()
	const unicast = `topicast_host_unclaimed_datagrams_total{to="unicast"}`
	before := s.metrics()[unicast]
	conn, err := s.Dev.Dial(t.Context(), "udp4", "172.17.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("astray"))
	s.eventually("the datagram is counted", func() error {
		if got := s.metrics()[unicast]; got < before+1 {
			return fmt.Errorf("%v, and %v before", got, before)
		}
		if u := s.status().HostUnclaimed; u == nil || u.Unicast < 1 {
			return fmt.Errorf("status: %+v", u)
		}
		return nil
	})
	if n := s.receiveRule("meters").Received; n != 0 {
		t.Errorf("the rule has received %d", n)
	}
	err = s.GW.Do(func() error {
		c, err := net.ListenPacket("udp4", "172.17.0.1:5000")
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		t.Errorf("a program that comes later: %v", err)
	}
}
