package session

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// Whatever bytes come, in whatever pieces: no panic, no bad topic, the same
// messages, and what is handed on is what another codec reads.
func FuzzRead(f *testing.F) {
	f.Add(uint64(1), slices.Concat(publish(qos1, "a", 1, "x"), suback(7, 0, 1), publish(qos0, "b", 0, "")))
	f.Add(uint64(2), slices.Concat(publish(qos2|dup, "é/ü", 1, "x"), frame(0x62, 0, 1), frame(0xd0)))
	f.Add(uint64(3), slices.Concat(publish(qos1, "a", 1, strings.Repeat("x", 200)), []byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'}))
	for i, m := range malformed {
		if len(m.bytes) < 1000 {
			f.Add(uint64(i), slices.Concat(publish(qos1, "a", 1, "x"), m.bytes))
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		stream := slices.Concat(hello, data)
		whole, _ := carry(stream)
		for _, m := range whole.Messages {
			if m.Topic == "" || !utf8.ValidString(m.Topic) || strings.ContainsAny(m.Topic, "+#\x00") {
				t.Errorf("handed on topic %q", m.Topic)
			}
		}

		r := rand.New(rand.NewPCG(seed, 0))
		var chunks [][]byte
		for rest := stream; len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 1+r.IntN(64)))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		parts, _ := carry(chunks...)
		// The bytes shown with an error depend on what had come by then.
		whole.Err, parts.Err = strings.Split(whole.Err, ", bytes")[0], strings.Split(parts.Err, ", bytes")[0]
		if !slices.Equal(whole.Messages, parts.Messages) || !bytes.Equal(whole.Granted, parts.Granted) || whole.Given != parts.Given ||
			!cmp.Equal(byKind(whole.Written), byKind(parts.Written)) || whole.Err != parts.Err {
			t.Errorf("in one piece and in %d: %s", len(chunks), cmp.Diff(whole, parts))
		}
		if got := decoded(data, len(whole.Messages)); !slices.Equal(got, whole.Messages) && !repeats(got) {
			t.Errorf("another codec reads otherwise: %s", cmp.Diff(got, whole.Messages))
		}
	})
}

// byKind sorts acknowledgements by their kind: in each the order counts
// [MQTT-4.6.0-2 to 4], and between them it does not.
func byKind(written []byte) map[byte][]byte {
	kinds := map[byte][]byte{}
	for a := range slices.Chunk(written, 4) {
		kinds[a[0]] = append(kinds[a[0]], a...)
	}
	return kinds
}

// decoded is what package packets makes of the first n PUBLISH packets in data.
func decoded(data []byte, n int) (ms []summary) {
	for r := bytes.NewReader(data); len(ms) < n; {
		cp, err := packets.ReadPacket(r)
		// It takes the end of the payload's reader for an error when it is empty.
		if p, ok := cp.(*packets.PublishPacket); ok {
			ms = append(ms, summary{p.TopicName, string(p.Payload), p.Qos, p.Retain, p.Dup, len(p.Payload), false})
		} else if err != nil {
			return ms
		}
	}
	return ms
}

// repeats reports whether a message may have been taken out as a repetition.
func repeats(ms []summary) bool {
	return slices.ContainsFunc(ms, func(m summary) bool { return m.Dup })
}
