package session

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// summary is what a test compares of a message.
type summary struct {
	Topic, Payload string
	QoS            byte
	Retain, Dup    bool
	Size           int
	Oversize       bool
}

func summaries(ms []Message) (s []summary) {
	for _, m := range ms {
		s = append(s, summary{string(m.Topic), string(m.Payload), m.QoS, m.Retain, m.Dup, m.Size, m.Oversize})
	}
	return s
}

func TestMessagesArriveWithTheirFlagsAndAreAcknowledgedInOrder(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, Subscriptions: []Subscription{{Filter: "t/#", QoS: 1}}})
	p := b.greet(false, 1)
	p.send(
		publish(qos1, "t/1", 10, "a"),
		publish(qos0|retain, "t/2", 0, ""),
		publish(qos1|dup, "t/3", 9, "c"),
		publish(qos1|retain, "t/3", 11, "d"),
	)
	if diff := cmp.Diff([]uint16{10, 9, 11}, p.puback(3)); diff != "" {
		t.Error(diff)
	}
	want := []summary{
		{"t/1", "a", 1, false, false, 1, false},
		{"t/2", "", 0, true, false, 0, false},
		{"t/3", "c", 1, false, true, 1, false},
		{"t/3", "d", 1, true, false, 1, false},
	}
	if diff := cmp.Diff(want, summaries(c.messages(4))); diff != "" {
		t.Error(diff)
	}
	if got := c.State().Received; got != 4 {
		t.Errorf("received %d, want 4", got)
	}
}

func TestWillBirthAndOrderlyEnd(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}, ClientID: "gateway", Username: "u",
		Password: func() (string, error) { return "p", nil }, Status: &Status{"s/gateway"}})
	p := b.accept()
	connect := p.connack(false)
	connect.FixedHeader = packets.FixedHeader{}
	want := &packets.ConnectPacket{ProtocolName: "MQTT", ProtocolVersion: 4, Keepalive: 30,
		ClientIdentifier: "gateway", UsernameFlag: true, Username: "u", PasswordFlag: true, Password: []byte("p"),
		WillFlag: true, WillTopic: "s/gateway", WillMessage: []byte("offline"), WillQos: 1, WillRetain: true}
	if diff := cmp.Diff(want, connect); diff != "" {
		t.Error(diff)
	}
	status := func(want string) {
		t.Helper()
		m := expect[*packets.PublishPacket](p)
		if m.TopicName != "s/gateway" || string(m.Payload) != want || m.Qos != 1 || !m.Retain {
			t.Errorf("status %v, want %q retained with QoS 1", m, want)
		}
		p.send(frame(0x40, byte(m.MessageID>>8), byte(m.MessageID)))
	}
	status("online")
	c.reached("connected", connected)
	stopped := make(chan struct{})
	go func() { c.stop(); close(stopped) }()
	status("offline")
	expect[*packets.DisconnectPacket](p)
	// Nothing more, and the socket half closed, not reset.
	if cp := p.next(); cp != nil {
		t.Errorf("got %v after DISCONNECT", cp)
	}
	p.Close()
	<-stopped
}

func TestPublishWaitsForTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		if err := c.Publish(t.Context(), "t", nil, 1, false); !errors.Is(err, ErrNotConnected) {
			t.Errorf("before the connection: %v", err)
		}
		p := b.greet(false, 0)
		c.reached("connected", connected)
		for _, bad := range []string{"", "a/+", "#", "\x00", "\xff"} {
			if err := c.Publish(t.Context(), bad, nil, 0, false); err == nil {
				t.Errorf("published to %q", bad)
			}
		}
		if err := c.Publish(t.Context(), "t", []byte("x"), 0, true); err != nil {
			t.Error(err)
		}
		if m := expect[*packets.PublishPacket](p); m.TopicName != "t" || string(m.Payload) != "x" || m.Qos != 0 || !m.Retain {
			t.Errorf("got %v", m)
		}

		done := make(chan error, 1)
		publish := func(qos byte) *packets.PublishPacket {
			go func() { done <- c.Publish(t.Context(), "t", []byte("y"), qos, false) }()
			m := expect[*packets.PublishPacket](p)
			synctest.Wait()
			if len(done) > 0 {
				t.Errorf("QoS %d: returned before the answer: %v", qos, <-done)
			}
			return m
		}
		m := publish(1)
		p.send(frame(0x40, byte(m.MessageID>>8), byte(m.MessageID)))
		if err := <-done; err != nil {
			t.Error(err)
		}
		m = publish(2)
		p.send(frame(0x50, byte(m.MessageID>>8), byte(m.MessageID)))
		expect[*packets.PubrelPacket](p)
		p.send(frame(0x70, byte(m.MessageID>>8), byte(m.MessageID)))
		if err := <-done; err != nil {
			t.Error(err)
		}
		// A connection that is lost is waited for: the message goes over the next.
		m = publish(1)
		_ = p.Close()
		p = b.greet(false, 0)
		again := expect[*packets.PublishPacket](p)
		if !again.Dup || again.MessageID != m.MessageID {
			t.Errorf("got %v, want %v again", again, m)
		}
		p.send(frame(0x40, byte(m.MessageID>>8), byte(m.MessageID)))
		if err := <-done; err != nil {
			t.Error(err)
		}
		publish(1)
		if err := <-done; err == nil {
			t.Error("no error without an answer")
		}
	})
}

func TestQoS2RunsToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPipeBroker(t)
		c := start(t, Options{URLs: []string{b.url()}}, b.use)
		for _, present := range []bool{false, true} {
			p := b.greet(present, 0)
			p.send(publish(qos2, "t", 7, "x"))
			if id := expect[*packets.PubrecPacket](p).MessageID; id != 7 {
				t.Errorf("PUBREC %d", id)
			}
			p.send(frame(0x62, 0, 7))
			if id := expect[*packets.PubcompPacket](p).MessageID; id != 7 {
				t.Errorf("PUBCOMP %d", id)
			}
			p.send(frame(0x62, 0, 9)) // of a connection before: answered all the same [MQTT-4.3.3-2]
			if id := expect[*packets.PubcompPacket](p).MessageID; id != 9 {
				t.Errorf("PUBCOMP %d", id)
			}
			_ = p.Close()
		}
		if n := len(c.messages(2)); n != 2 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestRunIsForOnce(t *testing.T) {
	b := newBroker(t)
	c := start(t, Options{URLs: []string{b.url()}})
	b.greet(false, 0)
	c.reached("connected", connected)
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}
