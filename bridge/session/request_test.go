package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// What the broker answers with its last bytes is no reason to blame what it was asked.
func TestAnAnswerBeforeTheEndOfTheConnectionCounts(t *testing.T) {
	c := testConn(&memConn{}, &inbox{}, newOutbox(1))
	c.end()
	for range 50 {
		answer := make(chan subAck, 1)
		answer <- subAck{id: 1}
		if got, err := await(t.Context(), c, answer); err != nil || got.id != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if _, err := await(t.Context(), c, make(chan []byte)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("without an answer: %v", err)
	}
}

func TestAnAnswerToARequestThatWasWithdrawnIsNone(t *testing.T) {
	var r requests
	id, _ := r.add(1)
	r.withdraw(id)
	r.answered(subAck{id: id, codes: []ReasonCode{0}})
	if r.filters(id) != 0 {
		t.Error("still there")
	}
}

// Whatever a port answers to CONNECT, in whatever pieces, no more than a CONNACK is
// waited for, and what follows is left for the reader.
func FuzzHandshake(f *testing.F) {
	for _, b := range [][]byte{hello, connack(true, 0), connack(false, 5), slices.Concat(hello, publish(qos1, "t", 1, "x")),
		[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), {0x15, 3, 3, 0, 2, 2, 70}, {0x20, 0x82, 0x80, 0x00, 0, 0}, {0x20, 0xff, 0xff, 0xff, 0x7f}, {0x20, 0x82, 0x80, 0x80, 0x00, 0x30}} {
		f.Add(b, 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		for _, n := range []int{len(data), min(max(size, 1), len(data))} {
			conn := &memConn{}
			if n > 0 {
				conn.chunks = slices.Collect(slices.Chunk(data, n))
			}
			c := newMQTTConn(conn, &inbox{}, newOutbox(1), codec311{})
			present, err := c.handshake(nil, time.Time{})
			refused, violation := (*RefusedError)(nil), (*ProtocolError)(nil)
			switch {
			case err == nil:
				rest := slices.Concat(append([][]byte{c.buf[c.r:c.w]}, conn.chunks...)...)
				if p, e := packets.ReadPacket(bytes.NewReader(data)); e != nil || p.(*packets.ConnackPacket).SessionPresent != present {
					t.Errorf("another codec: %v, %v", p, e)
				}
				if !bytes.HasSuffix(data, rest) || len(data)-len(rest) < 4 || len(data)-len(rest) > 7 {
					t.Errorf("% x is left of % x", rest, data)
				}
			case errors.As(err, &refused), errors.As(err, &violation):
			case errors.Is(err, io.EOF):
				if c.w > 6 { // a fixed header is 5 bytes at most
					t.Errorf("waits with % x", c.buf[:c.w])
				}
			default:
				t.Error(err)
			}
		}
	})
}
