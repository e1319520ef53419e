//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// A header begins every payload, and is all of the smallest one:
//
//	bit 31 a probe, 30 to 24 the run, 23 to 0 the stream │ sequence number │ sent, in nanoseconds since 1970
type header struct {
	probe  bool
	run    uint8 // 0 to 127: what is late from the run before is told by it
	stream uint32
	seq    uint32 // counts from 0 in each stream
	sent   int64
}

const headerSize = 16

func (h header) put(b []byte) {
	word := uint32(h.run)<<24 | h.stream
	if h.probe {
		word |= 1 << 31
	}
	binary.BigEndian.PutUint32(b, word)
	binary.BigEndian.PutUint32(b[4:], h.seq)
	binary.BigEndian.PutUint64(b[8:], uint64(h.sent))
}

func readHeader(b []byte) (h header, ok bool) {
	if len(b) < headerSize {
		return h, false
	}
	word := binary.BigEndian.Uint32(b)
	return header{
		probe:  word>>31 == 1,
		run:    uint8(word >> 24 & 0x7f),
		stream: word & 0xffffff,
		seq:    binary.BigEndian.Uint32(b[4:]),
		sent:   int64(binary.BigEndian.Uint64(b[8:])),
	}, true
}

// A traffic is what is carried: which topics belong to which groups, from
// which sources, in which sizes. All programs of a run are told the same one.
type traffic struct {
	Groups  int   // a stream each: order holds within a group
	Sources int   // 1, or one for each group
	Sizes   []int // of the payloads in turn, in bytes
	QoS     byte
	Answers bool // the device sends each datagram back; with Host
	Host    bool // to the device itself, and not to a group: only for sending, and one stream
}

// A group that stands alone still has many topics, as it would in the field.
const fewestTopics = 100

func (t traffic) topics() int { return max(t.Groups, fewestTopics) }

// topic names the n-th topic; it belongs to the stream n modulo Groups.
func (t traffic) topic(n int) string { return "dev/" + strconv.Itoa(n) + "/cmd" }

// streamOf is the stream of a topic that has been read, without looking at more
// of it than the number.
func (t traffic) streamOf(topic []byte) int {
	n := 0
	for _, c := range topic[len("dev/"):] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n % t.Groups
}

// size is the size of one payload of a stream. The streams begin at different
// ones, so that a batch has all of them.
func (t traffic) size(stream, seq uint32) int {
	return t.Sizes[(stream+seq)%uint32(len(t.Sizes))]
}

const groupPort = 5000

func (t traffic) group(stream int) netip.AddrPort {
	if t.Host {
		return netip.AddrPortFrom(netip.MustParseAddr(deviceAddr), groupPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 1, byte(stream >> 8), byte(stream)}), groupPort)
}

// source is the address the datagrams of a stream have to come from.
func (t traffic) source(stream int) netip.Addr {
	if t.Sources == 1 {
		return netip.MustParseAddr(gatewayAddr)
	}
	return netip.AddrFrom4([4]byte{172, 17, 1, byte(1 + stream%t.Sources)})
}

// env is the same for the peers that are not ours: stream i goes to GROUP + i,
// from SOURCE + i modulo SOURCES.
func (t traffic) env() []string {
	host, port := brokerHost, brokerPort
	return []string{
		"BROKER=" + host, "PORT=" + port,
		fmt.Sprint("QOS=", t.QoS),
		"GROUP=" + t.group(0).Addr().String(), fmt.Sprint("GROUP_PORT=", groupPort), fmt.Sprint("GROUPS=", t.Groups),
		"SOURCE=" + t.source(0).String(), fmt.Sprint("SOURCES=", t.Sources),
		"INTERFACE=" + gatewayAddr,
	}
}
