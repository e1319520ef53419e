package spool

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// A Record is one message on its way.
type Record struct {
	Came           time.Duration // when, on the spool's timeline, which no clock is set on; 0 at Append: Age ago
	Age            time.Duration // how long ago that was; Front tells it
	Key            string        // for the caller, at most 65,535 bytes
	Topic, Payload []byte        // the topic at most 65,535 bytes
	Flags          byte          // for the caller
}

// A frame is what a file holds one after the other: a record, or a state. It says all
// that is to be known of it, so that it can be read whatever has happened to others:
//
//	0   CRC-32C of bytes 4 to 35, the file's salt and the frame's place in the file
//	4   CRC-32C of what follows the header
//	8   length of what follows the header
//	12  kind
//	13  flags
//	14  length of the queue's name
//	16  length of the key
//	18  length of the topic
//	20  number
//	28  when it came, in nanoseconds on the spool's timeline
//	36  name, key, topic, payload
//
// Numbers are big-endian. The salt is in the file's name. It and the place are under the
// checksum so that nothing is taken for a frame that was not written there as one: not
// what a block held before, in another file, nor a payload that looks like a frame.
type frame struct {
	kind                      byte
	number                    uint64
	at                        time.Duration
	flags                     byte
	name, key, topic, payload []byte
	length                    int // of all of it
}

const (
	frameHeader = 36
	kindAt      = 12
)

const (
	recordKind byte = 1 + iota
	stateKind
)

// Bounds of what follows a header: what is longer was not written by us.
const (
	maxFrame = maxRecord + 3*math.MaxUint16
	maxState = 1 << 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fits reports whether the lengths of r can be written down.
func (r *Record) fits() bool {
	return len(r.Key) <= math.MaxUint16 && len(r.Topic) <= math.MaxUint16
}

// size is what a record counts.
func (r *Record) size() int64 {
	return int64(len(r.Key) + len(r.Topic) + len(r.Payload) + Overhead)
}

// size is what the record in a frame counts.
func (f *frame) size() int64 { return int64(len(f.key) + len(f.topic) + len(f.payload) + Overhead) }

// frameLength is how long a record of a queue of that name is when it is encoded.
func (r *Record) frameLength(name string) int {
	return frameHeader + len(name) + len(r.Key) + len(r.Topic) + len(r.Payload)
}

// appendFrame encodes a record, but for its number and the first checksum.
func appendFrame(b []byte, name string, r *Record, at time.Duration) []byte {
	start := len(b)
	b = append(b, make([]byte, 12)...)
	b = append(b, recordKind, r.Flags)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Topic)))
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, name...)
	b = append(b, r.Key...)
	b = append(b, r.Topic...)
	b = append(b, r.Payload...)
	return sumBody(b, start)
}

// appendState encodes a state.
func appendState(b []byte, number uint64, flags byte, body []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b[start+12], b[start+13] = stateKind, flags
	b = append(b, body...)
	setNumber(b[start:], number)
	return sumBody(b, start)
}

// sumBody enters the length and the checksum of what follows a frame's header.
func sumBody(b []byte, start int) []byte {
	body := b[start+frameHeader:]
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	binary.BigEndian.PutUint32(b[start+8:], uint32(len(body)))
	return b
}

// setNumber gives a frame its number.
func setNumber(b []byte, number uint64) { binary.BigEndian.PutUint64(b[20:], number) }

// shift moves a frame on the timeline.
func shift(b []byte, by time.Duration) {
	binary.BigEndian.PutUint64(b[28:], binary.BigEndian.Uint64(b[28:])+uint64(by))
}

// seal makes a frame one of a file: at a place in the one with that salt.
func seal(b []byte, salt uint64, at int64) {
	binary.BigEndian.PutUint32(b, headerSum(b, salt, at))
}

// headerSum goes on byte by byte with what is on the stack, which the library would move to
// the heap.
func headerSum(header []byte, salt uint64, at int64) uint32 {
	sum := ^crc32.Checksum(header[4:frameHeader], castagnoli)
	for _, n := range [...]uint64{salt, uint64(at)} {
		for range 8 {
			sum = castagnoli[byte(sum)^byte(n>>56)] ^ sum>>8
			n <<= 8
		}
	}
	return ^sum
}

// frameLength reads a header: how long its frame is. It is not ok if that is no header.
func frameLength(header []byte, salt uint64, at int64) (length int, ok bool) {
	most := maxFrame
	switch header[kindAt] {
	case recordKind:
	case stateKind:
		most = maxState
	default:
		return 0, false
	}
	body := binary.BigEndian.Uint32(header[8:])
	if uint64(body) > uint64(most) || binary.BigEndian.Uint32(header) != headerSum(header, salt, at) {
		return 0, false
	}
	return frameHeader + int(body), true
}

// decodeFrame reads a frame whose header is in order. What it has lies in b.
func decodeFrame(b []byte) (f frame, ok bool) {
	body := b[frameHeader:]
	if binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(body, castagnoli) {
		return frame{}, false
	}
	n, k, t := int(binary.BigEndian.Uint16(b[14:])), int(binary.BigEndian.Uint16(b[16:])), int(binary.BigEndian.Uint16(b[18:]))
	if n+k+t > len(body) {
		return frame{}, false
	}
	return frame{
		kind: b[12], flags: b[13], length: len(b),
		number: binary.BigEndian.Uint64(b[20:]), at: time.Duration(binary.BigEndian.Uint64(b[28:])),
		name: body[:n], key: body[n : n+k], topic: body[n+k : n+k+t], payload: body[n+k+t:],
	}, true
}
