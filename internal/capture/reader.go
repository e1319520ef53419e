package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"topicast/internal/frame"
)

const (
	// maxPacket is how long a packet may be, in bytes: what libpcap reads at most
	// (MAXIMUM_SNAPLEN). A file that says more is damaged.
	maxPacket = 256 << 10

	// maxInterfaces is how many interfaces a section of a file may have.
	maxInterfaces = 4096
)

// ErrDamaged is of a file that contradicts itself, or ends in the middle of a packet.
var ErrDamaged = errors.New("the capture is damaged")

// ErrNoCapture is of what is neither pcap nor pcapng.
var ErrNoCapture = errors.New("no capture file")

// Packet is one packet of a file.
type Packet struct {
	At    time.Time // the zero Time where the file does not say
	Link  frame.LinkType
	Bytes []byte // valid until the next packet
	Whole int    // bytes of the packet on the network, of which Bytes may be less
}

// Reader reads the packets of a file one by one. Its memory does not grow with the file.
type Reader struct {
	in     *bufio.Reader
	at     int64 // how far it has read
	count  int   // packets
	order  binary.ByteOrder
	next   func() (Packet, error)
	packet []byte

	// of pcap
	link frame.LinkType
	unit time.Duration // of the fraction of a second

	interfaces []ngInterface // of pcapng, in this section
}

// NewReader reads the head of a file. The error wraps ErrNoCapture or ErrDamaged, or is that
// of in.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10)}
	head, err := r.in.Peek(4)
	switch {
	case err == io.EOF && len(head) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrNoCapture)
	case err != nil && err != io.EOF:
		return nil, err
	case len(head) < 4:
		return nil, fmt.Errorf("%w: it begins with % x, and ends", ErrNoCapture, head)
	}
	magic := binary.BigEndian.Uint32(head)
	if magic == blockSection {
		r.next = r.nextNG
		return r, nil
	}
	for _, m := range []struct {
		magic uint32
		unit  time.Duration
	}{{0xa1b2c3d4, time.Microsecond}, {0xa1b23c4d, time.Nanosecond}} {
		switch magic {
		case m.magic:
			r.order = binary.BigEndian
		case bits.ReverseBytes32(m.magic):
			r.order = binary.LittleEndian
		default:
			continue
		}
		r.unit, r.next = m.unit, r.nextPcap
		return r, r.pcapHead()
	}
	return nil, fmt.Errorf("%w: it begins with % x, as neither pcap nor pcapng does", ErrNoCapture, head)
}

// Next returns the next packet, or io.EOF where the file ends as it should.
func (r *Reader) Next() (Packet, error) {
	p, err := r.next()
	if err == nil {
		r.count++
	}
	return p, err
}

// damaged says what is wrong, and where.
func (r *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w at byte %d (packets before: %d): %s", ErrDamaged, r.at, r.count, fmt.Sprintf(format, args...))
}

// read fills b, which is what is there of it. At the very end of the file it returns io.EOF
// where that may be.
func (r *Reader) read(b []byte, what string, mayEnd bool) error {
	n, err := io.ReadFull(r.in, b)
	if err == nil {
		r.at += int64(n)
		return nil
	}
	if err == io.EOF && mayEnd {
		return io.EOF
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return r.damaged("it ends in the middle of %s, of which %d of %d bytes are there", what, n, len(b))
	}
	return err
}

func (r *Reader) skip(n int64, what string) error {
	done, err := io.CopyN(io.Discard, r.in, n)
	if err == io.EOF {
		return r.damaged("it ends in the middle of %s, of which %d bytes are missing", what, n-done)
	}
	r.at += done
	return err
}

// body reads the bytes of a packet.
func (r *Reader) body(have uint32) ([]byte, error) {
	if have > maxPacket {
		return nil, r.damaged("a packet of %d bytes", have)
	}
	if int(have) > cap(r.packet) {
		r.packet = make([]byte, max(int(have), 2048))
	}
	b := r.packet[:have]
	return b, r.read(b, "a packet", false)
}

// pcapHead reads the header of a file (draft-ietf-opsawg-pcap, 4).
func (r *Reader) pcapHead() error {
	var b [24]byte
	if err := r.read(b[:], "its header", false); err != nil {
		return err
	}
	if major := r.order.Uint16(b[4:]); major != 2 {
		return r.damaged("version %d of pcap", major)
	}
	r.link = frame.LinkType(r.order.Uint32(b[20:]) & 0xffff) // the others say how long checksums are
	return nil
}

// nextPcap reads a record (5).
func (r *Reader) nextPcap() (Packet, error) {
	var b [16]byte
	if err := r.read(b[:], "the head of a packet", true); err != nil {
		return Packet{}, err
	}
	seconds, fraction := r.order.Uint32(b[:]), r.order.Uint32(b[4:])
	if time.Duration(fraction)*r.unit >= time.Second {
		return Packet{}, r.damaged("a time of %d and %d parts of a second", seconds, fraction)
	}
	data, err := r.body(r.order.Uint32(b[8:]))
	if err != nil {
		return Packet{}, err
	}
	return Packet{At: time.Unix(int64(seconds), int64(time.Duration(fraction)*r.unit)), Link: r.link, Bytes: data, Whole: int(r.order.Uint32(b[12:]))}, nil
}
