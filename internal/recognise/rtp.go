package recognise

import (
	"encoding/binary"
	"net/netip"
)

// maxStreams is how many streams of RTP, by sender and SSRC, are told apart in a flow.
const maxStreams = 4

// inSequence is how many packets in a row make a stream of RTP. Two bits of the version, and
// a number that counts up for one SSRC: RFC 3550, A.1 has MIN_SEQUENTIAL 2, with the SSRC
// known; here it is to be told from anything.
const inSequence = 4

// stream is what is known of a sender that may speak RTP.
type stream struct {
	source netip.AddrPort
	ssrc   uint32
	kind   byte // payload type
	next   uint16
	run    int // packets in a row
}

// rtp follows the packets of a flow (RFC 3550, 5.1): version 2, no type that RTCP has (RFC
// 5761, 4), for each sender and SSRC a sequence number that counts up.
type rtp struct {
	streams []stream
	kind    byte
	found   bool
}

func (r *rtp) add(source netip.AddrPort, b []byte) {
	if r.found || len(b) < 12 || b[0]>>6 != 2 {
		return
	}
	kind := b[1] & 0x7f
	if kind >= 64 && kind <= 95 || len(b) < 12+4*int(b[0]&15) {
		return
	}
	s := stream{source, binary.BigEndian.Uint32(b[8:]), kind, binary.BigEndian.Uint16(b[2:]) + 1, 1}
	for i := range r.streams {
		is := &r.streams[i]
		if is.source != source || is.ssrc != s.ssrc {
			continue
		}
		if is.kind == kind && is.next == s.next-1 {
			s.run = is.run + 1
		}
		*is = s
		if s.run >= inSequence {
			r.found, r.kind = true, kind
		}
		return
	}
	if len(r.streams) < maxStreams {
		r.streams = append(r.streams, s)
	}
}

// rtpKinds are payload types of RFC 3551, 6; those from 96 on are what the session says.
var rtpKinds = map[byte]string{0: "PCMU", 3: "GSM", 8: "PCMA", 9: "G722", 10: "L16", 11: "L16", 14: "MPEG audio", 26: "JPEG", 31: "H261", 32: "MPEG video", 33: "MPEG transport stream", 34: "H263"}

// rtcpKinds are the packets of RFC 3550, 12.1.
var rtcpKinds = map[byte]string{200: "sender report", 201: "receiver report", 202: "description", 203: "goodbye", 204: "of an application"}

// rtcp: RFC 3550, 6.1. Packets of version 2, the first of them a report, whose lengths fill
// the datagram exactly.
func rtcp(b []byte) (m Match, ok bool) {
	if len(b) < 8 || b[1] != 200 && b[1] != 201 {
		return m, false
	}
	m = Match{Protocol: RTCP, Kind: rtcpKinds[b[1]], Evidence: "reports of version 2 that fill the datagram (RFC 3550, 6.1)"}
	for len(b) > 0 {
		size := 4 * (u16(b, 2) + 1)
		if len(b) < 4 || b[0]>>6 != 2 || b[1] < 192 || b[1] > 223 || len(b) < size {
			return m, false
		}
		b = b[size:]
	}
	return m, true
}
