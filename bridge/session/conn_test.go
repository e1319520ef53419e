package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memConn is a connection in memory: it gives out one chunk per Read, then EOF.
type memConn struct {
	net.Conn
	chunks  [][]byte
	written bytes.Buffer
	writes  int
}

func (c *memConn) Read(p []byte) (int, error) {
	if len(c.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.chunks[0])
	if c.chunks[0] = c.chunks[0][n:]; len(c.chunks[0]) == 0 {
		c.chunks = c.chunks[1:]
	}
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error)      { c.writes++; return c.written.Write(p) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) Close() error                     { return nil }

// outcome is what comes of a stream of bytes.
type outcome struct {
	Messages []summary
	Granted  []byte // what the SUBSCRIBE was answered
	Given    bool   // that the UNSUBSCRIBE was answered
	Written  []byte // acknowledgements
	Err      string
}

// carry gives a connection the chunks and reads it to its end.
func carry(chunks ...[]byte) (outcome, error) { return carryIn(codec311{}, chunks...) }

// carryIn is carry in one version of MQTT.
func carryIn(version codec, chunks ...[]byte) (outcome, error) {
	var o outcome
	conn := &memConn{chunks: slices.Clone(chunks)}
	in := &inbox{handle: func(batch []Message) { o.Messages = append(o.Messages, summaries(batch)...) }}
	c := newMQTTConn(conn, in, newOutbox(100), version)
	subscribe := &request{filters: 2, answer: make(chan subAck, 1)}
	unsubscribe := &request{answer: make(chan subAck, 1)}
	c.requests.open = map[uint16]*request{7: subscribe, 9: unsubscribe}
	err := c.readAll()
	select {
	case answer := <-subscribe.answer:
		for _, code := range answer.codes {
			o.Granted = append(o.Granted, byte(code))
		}
	default:
	}
	o.Given = len(unsubscribe.answer) > 0
	o.Written = conn.written.Bytes()
	if err != nil {
		o.Err = err.Error()
	}
	return o, err
}

var hello = connack(false, 0)

func TestMessagesAndWhatAnswersThemAreTakenOutOfTheStream(t *testing.T) {
	stream := slices.Concat(hello,
		publish(qos1, "a", 1, "x"),
		suback(7, 0, 1),
		publish(qos0, "b", 0, ""),
		frame(0xd0), // PINGRESP
		frame(0x40, 0, 9), frame(0x50, 0, 9), frame(0x62, 0, 9), frame(0x70, 0, 9), frame(0xb0, 0, 9), frame(0xb0, 0, 8),
		publish(qos2, "c", 2, strings.Repeat("y", 300)),
	)
	want := outcome{
		Messages: []summary{{Topic: "a", Payload: "x", QoS: 1, Size: 1}, {Topic: "b"}, {Topic: "c", Payload: strings.Repeat("y", 300), QoS: 2, Size: 300}},
		Granted:  []byte{0, 1},
		Given:    true,
		Written:  slices.Concat(frame(0x40, 0, 1), frame(0x62, 0, 9), frame(0x70, 0, 9), frame(0x50, 0, 2)),
	}
	t.Run("in one piece", func(t *testing.T) {
		got, _ := carry(stream)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		got, _ := carry(slices.Collect(slices.Chunk(stream, 1))...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	for i := range stream {
		if got, _ := carry(stream[:i:i], stream[i:]); !cmp.Equal(want, got) {
			t.Errorf("cut at byte %d: %s", i, cmp.Diff(want, got))
		}
	}
}

func TestABatchIsAcknowledgedInOneWrite(t *testing.T) {
	batches := 0
	stream := slices.Clone(hello)
	for i := range 2*maxBatch + 1 {
		stream = append(stream, publish(qos1, "t", uint16(i+1), "x")...)
	}
	conn := &memConn{chunks: [][]byte{stream}}
	c := newMQTTConn(conn, &inbox{handle: func([]Message) { batches++ }}, newOutbox(100), codec311{})
	_ = c.readAll()
	if batches != 3 || conn.writes != 1+3 || // CONNECT is one
		conn.written.Len() != 4*(2*maxBatch+1) {
		t.Errorf("%d batches, %d writes of %d bytes", batches, conn.writes, conn.written.Len())
	}
}

// A message must not wait for the next one, nor for any other frame.
func TestWhatIsParsedIsDeliveredBeforeWaiting(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	got := make(chan string, 1)
	c := newMQTTConn(ours, &inbox{handle: func(batch []Message) { got <- string(batch[0].Topic) }}, newOutbox(100), codec311{})
	go io.Copy(io.Discard, theirs)
	read := make(chan error, 1)
	go func() { read <- c.readAll() }()
	if _, err := theirs.Write(slices.Concat(hello, publish(qos1, "whole", 1, "x"), publish(qos1, "part", 2, "y")[:5])); err != nil {
		t.Fatal(err)
	}
	select {
	case topic := <-got:
		if topic != "whole" {
			t.Errorf("got %q", topic)
		}
	case <-time.After(patience):
		t.Error("the message before a partial frame is held back")
	}
	theirs.Close()
	<-read
}

var malformed = []struct {
	name   string
	bytes  []byte
	clause string
}{
	{"reserved type 0", frame(0x00), "2.2.1"},
	{"reserved type 15", frame(0xf0), "2.2.1"},
	{"CONNECT", frame(0x10, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 0), "2.2.1"},
	{"SUBSCRIBE", frame(0x82, 0, 1, 0, 1, 'a', 0), "2.2.1"},
	{"UNSUBSCRIBE", frame(0xa2, 0, 1, 0, 1, 'a'), "2.2.1"},
	{"PINGREQ", frame(0xc0), "2.2.1"},
	{"DISCONNECT", frame(0xe0), "2.2.1"},
	{"flags of CONNACK", frame(0x21, 0, 0), "MQTT-3.2.0-1"},
	{"flags of PUBACK", frame(0x42, 0, 1), "MQTT-2.2.2-2"},
	{"flags of PUBREC", frame(0x51, 0, 1), "MQTT-2.2.2-2"},
	{"flags of PUBREL", frame(0x60, 0, 1), "MQTT-2.2.2-2"},
	{"flags of PUBCOMP", frame(0x78, 0, 1), "MQTT-2.2.2-2"},
	{"flags of SUBACK", frame(0x91, 0, 7, 0, 0), "MQTT-2.2.2-2"},
	{"flags of UNSUBACK", frame(0xb4, 0, 1), "MQTT-2.2.2-2"},
	{"flags of PINGRESP", frame(0xd1), "MQTT-2.2.2-2"},
	{"remaining length of five bytes", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, "2.2.3"},
	{"remaining length without end", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x80}, "2.2.3"},
	{"second CONNACK", hello, "MQTT-3.2.0-1"},
	{"PUBLISH with QoS 3", publish(qos1|qos2, "t", 1, ""), "MQTT-3.3.1-4"},
	{"PUBLISH with QoS 3, its first bytes", publish(qos1|qos2, "t", 1, "")[:2], "MQTT-3.3.1-4"},
	{"DUP with QoS 0", publish(dup, "t", 0, ""), "MQTT-3.3.1-2"},
	{"empty topic", publish(qos1, "", 1, "x"), "MQTT-4.7.3-1"},
	{"no topic at all", frame(0x30), "3.3.2.1"},
	{"half a topic length", frame(0x30, 0), "3.3.2.1"},
	{"topic longer than the frame", frame(0x30, 0, 3, 'a', 'b'), "3.3.2.1"},
	{"no room for the packet identifier", frame(0x32, 0, 1, 'a', 1), "3.3.2.1"},
	{"wildcard + in topic", publish(qos0, "a/+/b", 0, ""), "MQTT-3.3.2-2"},
	{"wildcard # in topic", publish(qos0, "a/#", 0, ""), "MQTT-3.3.2-2"},
	{"NUL in topic", publish(qos0, "a\x00b", 0, ""), "MQTT-4.7.3-2"},
	{"stray continuation byte in topic", publish(qos0, "a\x80", 0, ""), "MQTT-1.5.3-1"},
	{"overlong form in topic", publish(qos0, "\xc0\xaf", 0, ""), "MQTT-1.5.3-1"},
	{"surrogate in topic", publish(qos0, "\xed\xa0\x80", 0, ""), "MQTT-1.5.3-1"},
	{"invalid UTF-8 and NUL in topic", publish(qos0, "\xff\x00", 0, ""), "MQTT-4.7.3-2"},
	{"packet identifier 0, QoS 1", publish(qos1, "t", 0, "x"), "MQTT-2.3.1-1"},
	{"packet identifier 0, QoS 2", publish(qos2, "t", 0, "x"), "MQTT-2.3.1-1"},
	{"PUBACK for 0", frame(0x40, 0, 0), "MQTT-2.3.1-1"},
	{"PUBREL for 0", frame(0x62, 0, 0), "MQTT-2.3.1-1"},
	{"PUBACK of one byte", frame(0x40, 0), "MQTT-4.8.0-1"},
	{"PUBACK with a reason", frame(0x40, 0, 1, 0), "MQTT-4.8.0-1"},
	{"PINGRESP with a body", frame(0xd0, 0), "MQTT-4.8.0-1"},
	{"UNSUBACK of 200 MB, its first bytes", []byte{0xb0, 0x80, 0x84, 0xaf, 0x5f}, "MQTT-4.8.0-1"},
	{"SUBACK never asked for", suback(8, 0), "MQTT-3.8.4-2"},
	{"SUBACK twice", slices.Concat(suback(7, 0, 0), suback(7, 0, 0)), "MQTT-3.8.4-2"},
	{"SUBACK with a code too many", suback(7, 0, 0, 0), "MQTT-3.8.4-5"},
	{"SUBACK with a code too few", suback(7, 0), "MQTT-3.8.4-5"},
	{"SUBACK without codes", frame(0x90, 0, 7), "MQTT-4.8.0-1"},
	{"SUBACK of 200 MB, its first bytes", []byte{0x90, 0x80, 0x84, 0xaf, 0x5f, 0, 7}, "MQTT-3.8.4-5"},
	{"SUBACK with a reserved code", suback(7, 0, 3), "MQTT-3.9.3-2"},
	{"SUBACK of one byte", frame(0x90, 0), "MQTT-4.8.0-1"},
	{"oversized PUBLISH, empty topic", publish(qos0, "", 0, strings.Repeat("x", MaxMessage)), "MQTT-4.7.3-1"},
	{"oversized PUBLISH, identifier 0", publish(qos1, "t", 0, strings.Repeat("x", MaxMessage)), "MQTT-2.3.1-1"},
}

func TestMalformedFramesEndTheConnection(t *testing.T) {
	for _, tt := range malformed {
		t.Run(tt.name, func(t *testing.T) {
			stream := slices.Concat(hello, publish(qos1, "before", 5, ""), tt.bytes, publish(qos1, "after", 6, ""))
			for _, chunks := range [][][]byte{{stream}, slices.Collect(slices.Chunk(stream, 1))} {
				if len(stream) > MaxMessage {
					chunks = [][]byte{stream}
				}
				got, err := carry(chunks...)
				var violation *ProtocolError
				if !errors.As(err, &violation) || violation.Clause != tt.clause {
					t.Fatalf("got error %v, want one of clause %s", err, tt.clause)
				}
				if len(violation.Bytes) == 0 {
					t.Error("no offending bytes")
				}
				// What came before is delivered and acknowledged, nothing after.
				if diff := cmp.Diff([]summary{{Topic: "before", QoS: 1}}, got.Messages); diff != "" {
					t.Error(diff)
				}
				if !bytes.Equal(got.Written, frame(0x40, 0, 5)) {
					t.Errorf("written % x", got.Written)
				}
			}
		})
	}
}

func TestTheFirstPacketIsConnack(t *testing.T) {
	for name, first := range map[string][]byte{
		"PUBLISH":                    publish(qos0, "t", 0, ""),
		"PINGRESP":                   frame(0xd0),
		"CONNACK, reserved flags":    frame(0x20, 2, 0),
		"CONNACK, reserved code":     frame(0x20, 0, 6),
		"CONNACK, code 254":          frame(0x20, 0, 0xfe),
		"CONNACK, refused, present":  frame(0x20, 1, 5),
		"CONNACK of MQTT 5":          frame(0x20, 0, 0, 0),
		"something else than MQTT":   []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"TLS alert":                  {0x15, 3, 3, 0, 2, 2, 70},
		"SSH":                        []byte("SSH-2.0-OpenSSH_9.2p1\r\n"),
		"CONNACK with flags, header": frame(0x22, 0, 0),
	} {
		got, err := carry(first, publish(qos0, "t", 0, ""))
		var violation *ProtocolError
		if !errors.As(err, &violation) || got.Messages != nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestOversizedMessagesAreSkippedCountedAndAcknowledged(t *testing.T) {
	huge := strings.Repeat("z", MaxMessage)
	stream := slices.Concat(hello,
		publish(qos1, "a", 1, "x"),
		publish(qos0, "huge/0", 0, huge),
		publish(qos1|retain, "huge/1", 2, huge+"1"),
		publish(qos2, "huge/2", 3, huge+huge+huge),
		frame(0xd0),
		publish(qos1, strings.Repeat("t", 65535), 4, huge),
		publish(qos1, "fits", 5, huge[:MaxMessage-4-2-4-2]),
		publish(qos1, "b", 6, "y"),
	)
	want := []summary{
		{Topic: "a", Payload: "x", QoS: 1, Size: 1},
		{Topic: "huge/0", Size: MaxMessage, Oversize: true},
		{Topic: "huge/1", QoS: 1, Retain: true, Size: MaxMessage + 1, Oversize: true},
		{Topic: "huge/2", QoS: 2, Size: 3 * MaxMessage, Oversize: true},
		{Topic: strings.Repeat("t", 65535), QoS: 1, Size: MaxMessage, Oversize: true},
		{Topic: "fits", Payload: huge[:MaxMessage-12], QoS: 1, Size: MaxMessage - 12},
		{Topic: "b", Payload: "y", QoS: 1, Size: 1},
	}
	written := slices.Concat(frame(0x40, 0, 1), frame(0x40, 0, 2), frame(0x50, 0, 3), frame(0x40, 0, 4), frame(0x40, 0, 5), frame(0x40, 0, 6))
	for _, size := range []int{len(stream), MaxMessage, 1448, 4096, 65537} {
		got, _ := carry(slices.Collect(slices.Chunk(stream, size))...)
		if !cmp.Equal(want, got.Messages) {
			t.Errorf("chunks of %d bytes: wrong messages", size)
		}
		if !bytes.Equal(written, got.Written) {
			t.Errorf("chunks of %d bytes: written % x", size, got.Written)
		}
	}
}

// [MQTT-4.3.3-2]: from PUBREC to PUBREL a QoS 2 message is acknowledged again,
// but not handed on again, over as many connections as the session lives.
func TestQoS2IsHandedOnOnce(t *testing.T) {
	var got []string
	in := &inbox{handle: func(batch []Message) {
		for _, m := range batch {
			got = append(got, string(m.Topic))
		}
	}}
	over := func(frames ...[]byte) []byte {
		conn := &memConn{chunks: [][]byte{slices.Concat(frames...)}}
		c := newMQTTConn(conn, in, newOutbox(100), codec311{})
		_ = c.readAll()
		return conn.written.Bytes()
	}
	written := slices.Concat(
		over(connack(false, 0), publish(qos2, "first", 1, ""), publish(qos2|dup, "again", 1, "")),
		over(connack(true, 0), publish(qos2|dup, "over the next connection", 1, "")),
		over(connack(true, 0), publish(qos2|dup, "right before PUBREL", 1, ""), frame(0x62, 0, 1), publish(qos2|dup, "after PUBREL", 1, "")),
		over(connack(true, 0), publish(qos2, "identifier reused", 1, "")),
		over(connack(false, 0), publish(qos2|dup, "new session", 1, "")),
	)
	if diff := cmp.Diff([]string{"first", "after PUBREL", "identifier reused", "new session"}, got); diff != "" {
		t.Error(diff)
	}
	rec, comp := frame(0x50, 0, 1), frame(0x70, 0, 1)
	if want := slices.Concat(bytes.Repeat(rec, 4), comp, bytes.Repeat(rec, 3)); !bytes.Equal(want, written) {
		t.Errorf("written % x, want seven PUBRECs, and a PUBCOMP after the fourth", written)
	}
}

func TestAMessageOfAnyLengthFormIsRead(t *testing.T) {
	for _, n := range []int{0, 1, 123, 124, 127, 128, 16379, 16380, 16383, 16384, 65507, 131014} {
		payload := strings.Repeat("p", n)
		got, err := carry(hello, publish(qos0, "t", 0, payload))
		if err != nil || len(got.Messages) != 1 || got.Messages[0].Payload != payload {
			t.Errorf("payload of %d bytes: error %v, %d messages", n, err, len(got.Messages))
		}
	}
	// A length may be written with more bytes than it needs.
	got, err := carry(hello, []byte{0x30, 0x83, 0x80, 0x00, 0, 1, 't'})
	if err != nil || len(got.Messages) != 1 {
		t.Errorf("padded length: error %v, %+v", err, got)
	}
}

// A connection may give its last bytes together with its end.
func TestTheLastBytesCount(t *testing.T) {
	var got []summary
	conn := readConn{&memConn{}, iotest.DataErrReader(bytes.NewReader(slices.Concat(hello, publish(qos0, "t", 0, "x"))))}
	c := newMQTTConn(conn, &inbox{handle: func(batch []Message) { got = summaries(batch) }}, newOutbox(100), codec311{})
	_ = c.readAll()
	if len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// readConn reads from something else.
type readConn struct {
	net.Conn
	r io.Reader
}

func (c readConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func ExampleProtocolError() {
	_, err := carry(hello, publish(qos1|qos2, "t", 1, ""))
	fmt.Println(err)
	// Output: broker broke the protocol: PUBLISH with QoS 3 [MQTT-3.3.1-4], bytes 36 05 00 01 74 00 01
}
