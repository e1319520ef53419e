package spool

import (
	"encoding/binary"
	"errors"
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

// A record on disk:
//
//	0   CRC-32C of all that follows
//	4   version, 2
//	5   flags
//	6   when it came, in nanoseconds on the spool's timeline
//	14  length of the key
//	16  length of the topic
//	18  key, topic, payload
//
// Numbers are big-endian. The checksum is there because the file's own cover
// only its first pages: a bad sector elsewhere would be taken for a message. It and
// the version stay where they are in any version.
//
// Version 1 had the time of day at 6, which is no measure of an age: such a record
// counts from when its file was first opened by a program that knows version 2.
const (
	recordVersion = 2
	recordHeader  = 18
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fits reports whether the lengths of r can be written down.
func (r *Record) fits() bool {
	return len(r.Key) <= math.MaxUint16 && len(r.Topic) <= math.MaxUint16
}

// encodedLen is how many bytes appendRecord adds.
func (r *Record) encodedLen() int {
	return recordHeader + len(r.Key) + len(r.Topic) + len(r.Payload)
}

// recordSize is what a record on disk counts.
func recordSize(b []byte) int64 { return int64(max(len(b)-recordHeader, 0) + Overhead) }

// appendRecord encodes r. at is when it came, on the timeline.
func appendRecord(b []byte, r *Record, at time.Duration) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, recordVersion, r.Flags)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Topic)))
	b = append(b, r.Key...)
	b = append(b, r.Topic...)
	b = append(b, r.Payload...)
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

// whole reports whether a record of any version is as it was written.
func whole(b []byte) bool {
	return len(b) > 4 && binary.BigEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli)
}

// recordAt is when a record that is whole came, on the timeline.
func recordAt(b []byte) time.Duration {
	if b[4] == 1 || len(b) < recordHeader {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(b[6:]))
}

// shift moves an encoded record on the timeline.
func shift(b []byte, by time.Duration) {
	binary.BigEndian.PutUint64(b[6:], uint64(recordAt(b)+by))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
}

var errRecord = errors.New("the record is damaged")

// decodeRecord reads what appendRecord wrote. The topic and the payload lie in b.
// The key is taken from last if it is the same, for in a row of records it mostly
// is.
func decodeRecord(b []byte, last string) (r Record, at time.Duration, err error) {
	if len(b) < recordHeader || b[4] == 0 || b[4] > recordVersion || !whole(b) {
		return Record{}, 0, errRecord
	}
	keyLen, topicLen := int(binary.BigEndian.Uint16(b[14:])), int(binary.BigEndian.Uint16(b[16:]))
	rest := b[recordHeader:]
	if keyLen+topicLen > len(rest) {
		return Record{}, 0, errRecord
	}
	key, rest := rest[:keyLen], rest[keyLen:]
	if string(key) != last {
		last = string(key)
	}
	return Record{
		Key:     last,
		Topic:   rest[:topicLen:topicLen],
		Payload: rest[topicLen:len(rest):len(rest)],
		Flags:   b[5],
	}, recordAt(b), nil
}
