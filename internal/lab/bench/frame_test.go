//go:build linux

package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesAreCutWhole(t *testing.T) {
	b := append(new(dialect).appendPublish(nil, "dev/1/cmd", 1, 0x1234, 300), make([]byte, 300)...)
	next := appendPuback(nil, 7)
	for n := range b {
		if _, size, err := cutFrame(b[:n]); size != 0 || err != nil {
			t.Fatalf("%d of %d bytes: size %d, %v", n, len(b), size, err)
		}
	}
	f, size, err := cutFrame(append(b, next...))
	if err != nil || size != len(b) {
		t.Fatalf("size %d, %v; want %d", size, err, len(b))
	}
	m, err := f.message(new(dialect))
	if err != nil || string(m.topic) != "dev/1/cmd" || len(m.payload) != 300 || m.qos != 1 || m.id != 0x1234 {
		t.Errorf("got %q, %d bytes, QoS %d, id %x, %v", m.topic, len(m.payload), m.qos, m.id, err)
	}
	if _, _, err := cutFrame([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}); !errors.Is(err, errFrame) {
		t.Errorf("a length of five bytes: %v, want %v", err, errFrame)
	}
}

func TestLengthsAreOfAsManyBytesAsTheyNeed(t *testing.T) {
	// The bounds of MQTT 3.1.1, table 2.4.
	for n, bytes := range map[int]int{3: 1, 127: 1, 128: 2, 16383: 2, 16384: 3, 2097151: 3, 2097152: 4} {
		payload := make([]byte, n-3)
		b := append(new(dialect).appendPublish(nil, "a", 0, 0, len(payload)), payload...)
		_, size, err := cutFrame(b)
		if len(b) != 1+bytes+n || size != len(b) || err != nil {
			t.Errorf("%d: % x, read as a frame of %d, %v", n, b[:5], size, err)
		}
	}
}

func TestMessagesOfQoS0HaveNoIdentifier(t *testing.T) {
	f, _, err := cutFrame(append(new(dialect).appendPublish(nil, "a", 0, 5, 2), 'h', 'i'))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := f.message(new(dialect)); err != nil || string(m.payload) != "hi" || m.id != 0 {
		t.Errorf("got %q, id %d, %v", m.payload, m.id, err)
	}
	for _, body := range [][]byte{nil, {0}, {0, 5, 'a'}} {
		if _, err := (frame{[]byte{0x30}, body}).message(new(dialect)); err == nil {
			t.Errorf("body % x is no message and was taken for one", body)
		}
	}
	if _, err := (frame{[]byte{0x32}, []byte{0, 1, 'a', 0}}).message(new(dialect)); err == nil {
		t.Error("half an identifier was taken for one")
	}
}

// The answers a broker owes: MQTT 3.1.1, 3.2, 3.4, 3.9, 3.11, 3.13.
func TestTheFakeBrokerAnswers(t *testing.T) {
	for name, c := range map[string]struct{ in, want []byte }{
		"CONNECT":       {[]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02id"), []byte{0x20, 2, 0, 0}},
		"SUBSCRIBE":     {[]byte("\x82\x0a\x00\x01\x00\x05dev/#\x01"), []byte{0x90, 3, 0, 1, 1}},
		"two filters":   {[]byte("\x82\x0c\x12\x34\x00\x01a\x01\x00\x03b/#\x00"), []byte{0x90, 4, 0x12, 0x34, 1, 0}},
		"UNSUBSCRIBE":   {[]byte{0xa2, 5, 0x12, 0x34, 0, 1, 'a'}, []byte{0xb0, 2, 0x12, 0x34}},
		"PINGREQ":       {[]byte{0xc0, 0}, []byte{0xd0, 0}},
		"PUBLISH QoS 0": {new(dialect).appendPublish(nil, "a", 0, 0, 0), nil},
		"PUBLISH QoS 1": {new(dialect).appendPublish(nil, "a", 1, 9, 0), []byte{0x40, 2, 0, 9}},
		"PUBACK":        {appendPuback(nil, 9), nil},
		"DISCONNECT":    {[]byte{0xe0, 0}, nil},
	} {
		f, size, err := cutFrame(c.in)
		if err != nil || size != len(c.in) {
			t.Errorf("%s: % x is not one frame: %d, %v", name, c.in, size, err)
			continue
		}
		got, err := new(dialect).appendAnswer([]byte("x"), f)
		if diff := cmp.Diff(append([]byte("x"), c.want...), got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// And those of MQTT 5, which a client has asked for in its CONNECT.
func TestTheFakeBrokerAnswersInMQTT5(t *testing.T) {
	d := new(dialect)
	d.five.Store(true)
	for name, c := range map[string]struct{ in, want []byte }{
		"CONNECT":       {[]byte("\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02id"), []byte{0x20, 3, 0, 0, 0}},
		"SUBSCRIBE":     {[]byte("\x82\x0d\x12\x34\x00\x00\x01a\x01\x00\x03b/#\x00"), []byte{0x90, 5, 0x12, 0x34, 0, 1, 0}},
		"UNSUBSCRIBE":   {[]byte{0xa2, 6, 0x12, 0x34, 0, 0, 1, 'a'}, []byte{0xb0, 4, 0x12, 0x34, 0, 0}},
		"PINGREQ":       {[]byte{0xc0, 0}, []byte{0xd0, 0}},
		"PUBLISH QoS 1": {d.appendPublish(nil, "a", 1, 9, 0), []byte{0x40, 2, 0, 9}},
		"DISCONNECT":    {[]byte{0xe0, 0}, nil},
	} {
		f, size, err := cutFrame(c.in)
		if err != nil || size != len(c.in) {
			t.Errorf("%s: % x is not one frame: %d, %v", name, c.in, size, err)
			continue
		}
		speaks := new(dialect)
		if speaks.five.Store(name != "CONNECT"); name == "CONNECT" {
			defer func() {
				if !speaks.five.Load() {
					t.Error("the version of CONNECT is not taken over")
				}
			}()
		}
		got, err := speaks.appendAnswer([]byte("x"), f)
		if diff := cmp.Diff(append([]byte("x"), c.want...), got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	f, _, _ := cutFrame(append(d.appendPublish(nil, "dev/1", 1, 9, 2), 'h', 'i'))
	if m, err := f.message(d); err != nil || string(m.topic) != "dev/1" || string(m.payload) != "hi" || m.id != 9 {
		t.Errorf("%q %q %d %v", m.topic, m.payload, m.id, err)
	}
}
