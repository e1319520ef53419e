package spool

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"
)

// A Record is one message on its way.
type Record struct {
	At             time.Time // when it came; what is older than a limit is left out by Front
	Key            string    // for the caller, at most 65,535 bytes
	Topic, Payload []byte    // the topic at most 65,535 bytes
	Flags          byte      // for the caller
}

// A record on disk:
//
//	0   CRC-32C of all that follows
//	4   version, 1
//	5   flags
//	6   at, in nanoseconds since 1970
//	14  length of the key
//	16  length of the topic
//	18  key, topic, payload
//
// Numbers are big-endian. The checksum is there because the file's own cover
// only its first pages: a bad sector elsewhere would be taken for a message.
const (
	recordVersion = 1
	recordHeader  = 18
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fits says whether the lengths of r can be written down.
func (r *Record) fits() bool {
	return len(r.Key) <= math.MaxUint16 && len(r.Topic) <= math.MaxUint16
}

// encodedLen is how many bytes appendRecord adds.
func (r *Record) encodedLen() int {
	return recordHeader + len(r.Key) + len(r.Topic) + len(r.Payload)
}

// recordSize is what a record on disk counts.
func recordSize(b []byte) int64 { return int64(max(len(b)-recordHeader, 0) + Overhead) }

func appendRecord(b []byte, r *Record) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, recordVersion, r.Flags)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixNano()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Topic)))
	b = append(b, r.Key...)
	b = append(b, r.Topic...)
	b = append(b, r.Payload...)
	binary.BigEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

// decodeRecord reads what appendRecord wrote; false means that it is damaged.
// The topic and the payload lie in b. The key is taken from last if it is the
// same, for in a row of records it mostly is.
func decodeRecord(b []byte, last string) (Record, bool) {
	if len(b) < recordHeader || b[4] != recordVersion ||
		binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return Record{}, false
	}
	keyLen, topicLen := int(binary.BigEndian.Uint16(b[14:])), int(binary.BigEndian.Uint16(b[16:]))
	rest := b[recordHeader:]
	if keyLen+topicLen > len(rest) {
		return Record{}, false
	}
	key, rest := rest[:keyLen], rest[keyLen:]
	if string(key) != last {
		last = string(key)
	}
	return Record{
		At:      time.Unix(0, int64(binary.BigEndian.Uint64(b[6:]))),
		Key:     last,
		Topic:   rest[:topicLen:topicLen],
		Payload: rest[topicLen:len(rest):len(rest)],
		Flags:   b[5],
	}, true
}
