//go:build linux

package main

import "slices"

// A stream makes the payloads of a run, topic after topic in turn.
type stream struct {
	traffic
	run   uint8
	made  int
	seqs  []uint32 // the next number, by stream
	names []string // of the topics
	in    *dialect
}

func newStream(t traffic, run uint8, in *dialect) *stream {
	s := &stream{traffic: t, run: run, in: in, seqs: make([]uint32, t.Groups)}
	for i := range t.topics() {
		s.names = append(s.names, t.topic(i))
	}
	return s
}

// next returns the header of the next payload, its size and its topic.
func (s *stream) next(now int64) (h header, size int, topic string) {
	n := s.made % len(s.names)
	s.made++
	g := uint32(n % s.Groups)
	h = header{run: s.run, stream: g, seq: s.seqs[g], sent: now}
	s.seqs[g]++
	return h, s.size(g, h.seq), s.names[n]
}

// appendMessage appends the next payload as a PUBLISH frame.
func (s *stream) appendMessage(b []byte, now int64) []byte {
	// An identifier is not 0 [MQTT-2.3.1-1], and comes again long after the
	// broker's window has moved on.
	id := uint16(s.made%0xffff + 1)
	h, size, topic := s.next(now)
	return appendPayload(s.in.appendPublish(b, topic, s.QoS, id, size), h, size)
}

func appendPayload(b []byte, h header, size int) []byte {
	n := len(b)
	b = slices.Grow(b, size)[:n+size]
	clear(b[n+headerSize:])
	h.put(b[n:])
	return b
}

// appendProbes appends a message for each stream that no result counts.
func (s *stream) appendProbes(b []byte, now int64) []byte {
	for g := range s.Groups {
		b = s.in.appendPublish(b, s.names[g], 0, 0, headerSize)
		b = appendPayload(b, header{probe: true, stream: uint32(g), sent: now}, headerSize)
	}
	return b
}
