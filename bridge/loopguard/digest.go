package loopguard

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
)

// Digest is the fingerprint of something that may come back.
type Digest uint64

// SentDigest is that of a datagram to a group by an interface.
func SentDigest(on int32, group netip.AddrPort, payload []byte) Digest {
	return newDigest(on, group, nil, payload)
}

// PublishedDigest is that of a message on a topic, made of such a datagram.
func PublishedDigest(on int32, group netip.AddrPort, topic, payload []byte) Digest {
	return newDigest(on, group, topic, payload)
}

func newDigest(on int32, group netip.AddrPort, topic, payload []byte) Digest {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	address := group.Addr().As16()
	var head [28]byte
	n := copy(head[:], address[:])
	binary.LittleEndian.PutUint16(head[n:], group.Port())
	binary.LittleEndian.PutUint32(head[n+2:], uint32(on))
	binary.LittleEndian.PutUint32(head[n+6:], uint32(len(topic)))
	h.Write(head[:])
	h.Write(topic)
	h.Write(payload)
	return Digest(h.Sum64())
}

// SourceDigest is the fingerprint of a source: of its address alone, as a program may
// open a socket for each datagram. It is made once for each sender that is known.
func SourceDigest(source netip.Addr) uint64 {
	a := source.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(a[8:])^fingerprintKey, binary.BigEndian.Uint64(a[:8])^0x9e3779b97f4a7c15)
	return hi ^ lo
}

// fingerprintKey keeps a sender from choosing an address whose fingerprint is another's.
var fingerprintKey = Fingerprint([]byte("source"))

var fingerprintSeed = maphash.MakeSeed()

// Fingerprint tells payloads apart; it is never 0.
func Fingerprint(payload []byte) uint64 {
	if h := maphash.Bytes(fingerprintSeed, payload); h != 0 {
		return h
	}
	return 1
}
