package capture

import (
	"encoding/binary"
	"time"

	"topicast/internal/frame"
)

// Blocks and options of pcapng (draft-ietf-opsawg-pcapng, 4 and 3.5).
const (
	blockSection    = 0x0a0d0d0a // the same in both byte orders
	blockInterface  = 1
	blockOldPacket  = 2
	blockSimple     = 3
	blockStatistics = 5
	blockPacket     = 6

	byteOrderMagic = 0x1a2b3c4d

	optionEnd        = 0
	optionComment    = 1
	optionName       = 2 // of an interface
	optionFlags      = 2 // of a packet
	optionMissed     = 4 // of a packet: epb_dropcount
	optionResolution = 9
	optionOffset     = 14
)

// ngInterface is an interface of a section.
type ngInterface struct {
	link   frame.LinkType
	snap   uint32
	perSec uint64 // units of its times in a second
	offset int64  // seconds to add
}

// maxDescription is how many bytes of the description of an interface are read: its options
// are names and filters.
const maxDescription = 64 << 10

// nextNG reads blocks up to one with a packet in it.
func (r *Reader) nextNG() (Packet, error) {
	for {
		var head [8]byte
		if err := r.read(head[:], "the head of a block", true); err != nil {
			return Packet{}, err
		}
		if binary.BigEndian.Uint32(head[:]) == blockSection {
			if err := r.section(head); err != nil {
				return Packet{}, err
			}
			continue
		}
		if r.order == nil {
			return Packet{}, r.damaged("a block before the first section")
		}
		kind, total := r.order.Uint32(head[:]), r.order.Uint32(head[4:])
		if total < 12 || total%4 != 0 {
			return Packet{}, r.damaged("a block of %d bytes", total)
		}
		length := total - 12 // of its body
		var p Packet
		var has bool
		var err error
		switch kind {
		case blockInterface:
			err = r.describe(length)
		case blockPacket, blockOldPacket:
			p, err = r.ngPacket(kind, length)
			has = true
		case blockSimple:
			p, err = r.simple(length)
			has = true
		default: // statistics, names, secrets, what others have made up
			err = r.skip(int64(length), "a block")
		}
		if err == nil {
			err = r.trailer(total)
		}
		if err != nil || has {
			return p, err
		}
	}
}

// trailer reads the length that ends a block.
func (r *Reader) trailer(total uint32) error {
	var b [4]byte
	if err := r.read(b[:], "a block", false); err != nil {
		return err
	}
	if again := r.order.Uint32(b[:]); again != total {
		return r.damaged("a block of %d bytes ends with a length of %d", total, again)
	}
	return nil
}

// section begins anew (4.1).
func (r *Reader) section(head [8]byte) error {
	var b [16]byte
	if err := r.read(b[:], "the head of a section", false); err != nil {
		return err
	}
	switch uint32(byteOrderMagic) {
	case binary.BigEndian.Uint32(b[:]):
		r.order = binary.BigEndian
	case binary.LittleEndian.Uint32(b[:]):
		r.order = binary.LittleEndian
	default:
		return r.damaged("a section without a byte order")
	}
	total := r.order.Uint32(head[4:])
	if total < 28 || total%4 != 0 {
		return r.damaged("the head of a section of %d bytes", total)
	}
	if major := r.order.Uint16(b[4:]); major != 1 {
		return r.damaged("version %d of pcapng", major)
	}
	if err := r.skip(int64(total)-28, "the head of a section"); err != nil {
		return err
	}
	r.interfaces = r.interfaces[:0]
	return r.trailer(total)
}

// describe reads an interface (4.2).
func (r *Reader) describe(length uint32) error {
	if length < 8 || length > maxDescription {
		return r.damaged("the description of an interface of %d bytes", length)
	}
	if len(r.interfaces) == maxInterfaces {
		return r.damaged("more than %d interfaces", maxInterfaces)
	}
	b := make([]byte, length)
	if err := r.read(b, "the description of an interface", false); err != nil {
		return err
	}
	i := ngInterface{link: frame.LinkType(r.order.Uint16(b)), snap: r.order.Uint32(b[4:]), perSec: 1e6}
	for o := b[8:]; len(o) >= 4; {
		code, size := r.order.Uint16(o), int(r.order.Uint16(o[2:]))
		if padded := (size + 3) &^ 3; code == optionEnd || len(o) < 4+padded {
			break
		}
		switch value := o[4 : 4+size]; {
		case code == optionResolution && size == 1:
			if i.perSec = resolution(value[0]); i.perSec == 0 {
				return r.damaged("times in units of 0x%02x", value[0])
			}
		case code == optionOffset && size == 8:
			i.offset = int64(r.order.Uint64(value))
		}
		o = o[4+(size+3)&^3:]
	}
	r.interfaces = append(r.interfaces, i)
	return nil
}

// resolution is the units in a second of if_tsresol: a power of 10, or of 2 with the high bit
// set; 0 where it is finer than anybody has.
func resolution(b byte) uint64 {
	n := uint64(1)
	switch power := b & 0x7f; {
	case b&0x80 != 0 && power <= 63:
		return n << power
	case b&0x80 == 0 && power <= 18:
		for range power {
			n *= 10
		}
		return n
	}
	return 0
}

// ngPacket reads an Enhanced Packet Block (4.3), or the Packet Block that was before it (A.1).
func (r *Reader) ngPacket(kind, length uint32) (Packet, error) {
	var b [20]byte
	if length < 20 {
		return Packet{}, r.damaged("a block of a packet of %d bytes", length)
	}
	if err := r.read(b[:], "the head of a packet", false); err != nil {
		return Packet{}, err
	}
	number := r.order.Uint32(b[:])
	if kind == blockOldPacket {
		number = uint32(r.order.Uint16(b[:]))
	}
	if number >= uint32(len(r.interfaces)) {
		return Packet{}, r.damaged("a packet of interface %d, of %d", number, len(r.interfaces))
	}
	i := r.interfaces[number]
	have := r.order.Uint32(b[12:])
	if have > length-20 {
		return Packet{}, r.damaged("a packet of %d bytes in a block of %d", have, length)
	}
	data, err := r.body(have)
	if err != nil {
		return Packet{}, err
	}
	if err := r.skip(int64(length-20-have), "a packet"); err != nil { // padding and options
		return Packet{}, err
	}
	units := uint64(r.order.Uint32(b[4:]))<<32 | uint64(r.order.Uint32(b[8:]))
	return Packet{At: i.time(units), Link: i.link, Bytes: data, Whole: int(r.order.Uint32(b[16:]))}, nil
}

// time is what so many units since 1970 are.
func (i ngInterface) time(units uint64) time.Time {
	rest := units % i.perSec
	nanoseconds := float64(rest) * 1e9 / float64(i.perSec)
	if i.perSec <= 1e9 && 1e9%i.perSec == 0 {
		return time.Unix(int64(units/i.perSec)+i.offset, int64(rest*(1e9/i.perSec)))
	}
	return time.Unix(int64(units/i.perSec)+i.offset, int64(nanoseconds))
}

// simple reads a Simple Packet Block (4.4): of the first interface, without a time.
func (r *Reader) simple(length uint32) (Packet, error) {
	if length < 4 || len(r.interfaces) == 0 {
		return Packet{}, r.damaged("a simple packet of %d bytes, with %d interfaces", length, len(r.interfaces))
	}
	var b [4]byte
	if err := r.read(b[:], "the head of a packet", false); err != nil {
		return Packet{}, err
	}
	i, whole := r.interfaces[0], r.order.Uint32(b[:])
	have := min(whole, length-4)
	if i.snap > 0 {
		have = min(have, i.snap)
	}
	data, err := r.body(have)
	if err != nil {
		return Packet{}, err
	}
	return Packet{Link: i.link, Bytes: data, Whole: int(whole)}, r.skip(int64(length-4-have), "a packet")
}
