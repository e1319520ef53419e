package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"topicast/internal/frame"
)

// ErrFull is of a file that has as many bytes as it may.
var ErrFull = errors.New("the capture is full")

const (
	// maxComment is how long a comment is at most, in bytes; what is beyond is cut off.
	maxComment = 1024

	// maxComments is how many a datagram has at most; the rest is left out.
	maxComments = 16

	// endRoom is kept of the bytes that a file may have for what is written at its end.
	endRoom = maxComment + 64
)

// longest are the payloads that IPv4 and IPv6 have room for.
const (
	longest4 = 65535 - 20 - 8
	longest6 = 65535 - 8
)

// Datagram is one datagram, as it was or would be on the network.
type Datagram struct {
	At         time.Time
	Interface  string // a name, for people
	Source, To netip.AddrPort
	Payload    []byte
	TTL        uint8
	Comments   []string // what became of it; Wireshark shows them, and finds by them
	Direction  Direction
	Missed     uint64 // how many were missed before it
}

// Direction is that of a datagram, as seen from the host (epb_flags, 4.3.1).
type Direction uint32

// The directions.
const (
	Unknown  Direction = 0
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Writer writes a file of pcapng, with times in nanoseconds, in whole blocks, so that what is
// there can be read at any moment. It is of Ethernet, though nothing is known of the stations
// (00:00:00:00:00:00): of an interface of raw IP (LINKTYPE_RAW) libpcap 1.10 reads a file only
// if there is no second one.
type Writer struct {
	out        io.Writer
	most       int64 // bytes; 0: as many as there are
	written    int64
	interfaces map[string]uint32
	last       time.Time
	block      []byte
	failed     error
}

// NewWriter writes the head of a file; application says who made it, comment what it is. The file
// has at most so many bytes, those that End writes among them; 0: there is no limit.
func NewWriter(out io.Writer, application, comment string, most int64) (*Writer, error) {
	w := &Writer{out: out, most: most, interfaces: make(map[string]uint32)}
	w.begin(blockSection)
	w.u32(byteOrderMagic)
	w.u16(1)
	w.u16(0)
	w.block = binary.LittleEndian.AppendUint64(w.block, ^uint64(0)) // the length of the section is not known
	w.comment(comment)
	w.option(4, []byte(application)) // shb_userappl
	w.option(optionEnd, nil)
	w.end()
	return w, w.flush()
}

// Write adds a datagram. The error is ErrFull where the file may not have it, and then
// for all that come; one that no packet can be made of is refused, and the rest goes on. After
// an error of the file none is written any more.
func (w *Writer) Write(d Datagram) error {
	if w.failed != nil {
		return w.failed
	}
	if err := d.check(); err != nil {
		return err
	}
	w.block = w.block[:0]
	number, known := w.interfaces[d.Interface]
	if !known {
		if len(w.interfaces) == maxInterfaces {
			return fmt.Errorf("more than %d interfaces", maxInterfaces)
		}
		number = uint32(len(w.interfaces))
		w.describe(d.Interface)
	}
	w.packet(number, d)
	if w.most > 0 && w.written+int64(len(w.block)) > w.most-endRoom {
		w.failed = ErrFull
		return w.failed
	}
	w.interfaces[d.Interface] = number
	if d.At.After(w.last) {
		w.last = d.At
	}
	return w.flush()
}

// End writes a comment about the whole, with the statistics of the first interface (4.6), which
// is where a file that was not known before it ended can have one. There is none without an
// interface, and none after an error of the file.
func (w *Writer) End(comment string) error {
	switch {
	case w.failed != nil && w.failed != ErrFull:
		return w.failed
	case len(w.interfaces) == 0:
		return nil
	}
	w.failed = nil
	w.block = w.block[:0]
	at := w.begin(blockStatistics)
	w.u32(0)
	w.time(w.last)
	w.comment(comment)
	w.option(optionEnd, nil)
	w.endFrom(at)
	return w.flush()
}

// Failed reports whether the file takes no more, for an error of it or for its size.
func (w *Writer) Failed() bool { return w.failed != nil }

// Size is how many bytes the file has, in whole blocks.
func (w *Writer) Size() int64 { return w.written }

// check refuses what no packet can be made of.
func (d *Datagram) check() error {
	most := longest6
	if d.To.Addr().Is4() {
		most = longest4
	}
	switch {
	case !d.Source.Addr().IsValid() || !d.To.Addr().IsValid() || d.Source.Addr().Is4() != d.To.Addr().Is4() || d.To.Addr().Is4In6() || d.Source.Addr().Is4In6():
		return fmt.Errorf("a datagram from %s to %s: addresses of one family are needed", d.Source, d.To)
	case len(d.Payload) > most:
		return fmt.Errorf("a datagram of %d bytes: %d are the most", len(d.Payload), most)
	}
	return nil
}

// describe adds the block of an interface.
func (w *Writer) describe(name string) {
	at := w.begin(blockInterface)
	w.u16(uint16(frame.LinkEthernet))
	w.u16(0)
	w.u32(0) // packets are whole
	if name != "" {
		w.option(optionName, []byte(name[:min(len(name), maxComment)]))
	}
	w.option(optionResolution, []byte{9})
	w.option(optionEnd, nil)
	w.endFrom(at)
}

// packet adds the block of a datagram.
func (w *Writer) packet(number uint32, d Datagram) {
	at := w.begin(blockPacket)
	w.u32(number)
	w.time(d.At)
	length := w.reserve()
	whole := w.reserve()
	began := len(w.block)
	station := groupStation(d.To.Addr())
	w.block = append(append(w.block, station[:]...), 0, 0, 0, 0, 0, 0)
	if d.To.Addr().Is4() {
		w.block = append(w.block, 0x08, 0x00)
		w.ip4(d)
	} else {
		w.block = append(w.block, 0x86, 0xdd)
		w.ip6(d)
	}
	size := uint32(len(w.block) - began)
	binary.LittleEndian.PutUint32(w.block[length:], size)
	binary.LittleEndian.PutUint32(w.block[whole:], size)
	w.pad()
	before := len(w.block)
	for _, c := range d.Comments[:min(len(d.Comments), maxComments)] {
		w.comment(c)
	}
	if d.Direction != Unknown {
		w.option(optionFlags, binary.LittleEndian.AppendUint32(nil, uint32(d.Direction)))
	}
	if d.Missed > 0 {
		w.option(optionMissed, binary.LittleEndian.AppendUint64(nil, d.Missed))
	}
	if len(w.block) > before {
		w.option(optionEnd, nil)
	}
	w.endFrom(at)
}

func (w *Writer) time(at time.Time) {
	nanoseconds := uint64(max(at.UnixNano(), 0))
	w.u32(uint32(nanoseconds >> 32))
	w.u32(uint32(nanoseconds))
}

// comment adds a comment, which is UTF-8, if there is one.
func (w *Writer) comment(text string) {
	if len(text) > maxComment {
		text = text[:maxComment]
	}
	if text != "" {
		w.option(optionComment, []byte(strings.ToValidUTF8(text, "")))
	}
}

// groupStation is the station address of a group (RFC 1112, 6.4; RFC 2464, 7), or none.
func groupStation(to netip.Addr) (station [6]byte) {
	if !to.IsMulticast() {
		return station
	}
	ip := to.As16()
	if to.Is4() {
		return [6]byte{0x01, 0x00, 0x5e, ip[13] & 0x7f, ip[14], ip[15]}
	}
	return [6]byte{0x33, 0x33, ip[12], ip[13], ip[14], ip[15]}
}

// ip4 adds a packet of IPv4 (RFC 791), not to be fragmented, as nothing is known of fragments.
func (w *Writer) ip4(d Datagram) {
	at := len(w.block)
	be := binary.BigEndian
	w.block = append(w.block, 0x45, 0)
	w.block = be.AppendUint16(w.block, uint16(20+8+len(d.Payload)))
	w.block = append(w.block, 0, 0, 0x40, 0, d.TTL, 17, 0, 0)
	w.block = append(w.block, d.Source.Addr().AsSlice()...)
	w.block = append(w.block, d.To.Addr().AsSlice()...)
	be.PutUint16(w.block[at+10:], ^fold(sum(0, w.block[at:])))
	w.udp(d)
}

// ip6 adds a packet of IPv6 (RFC 8200).
func (w *Writer) ip6(d Datagram) {
	w.block = append(w.block, 0x60, 0, 0, 0)
	w.block = binary.BigEndian.AppendUint16(w.block, uint16(8+len(d.Payload)))
	w.block = append(w.block, 17, d.TTL)
	w.block = append(w.block, d.Source.Addr().AsSlice()...)
	w.block = append(w.block, d.To.Addr().AsSlice()...)
	w.udp(d)
}

// udp adds the header of UDP with its checksum, over a header of addresses too (RFC 768; RFC
// 8200, 8.1), and the payload.
func (w *Writer) udp(d Datagram) {
	at := len(w.block)
	be := binary.BigEndian
	w.block = be.AppendUint16(w.block, d.Source.Port())
	w.block = be.AppendUint16(w.block, d.To.Port())
	w.block = be.AppendUint16(w.block, uint16(8+len(d.Payload)))
	w.block = append(w.block, 0, 0)
	w.block = append(w.block, d.Payload...)
	total := sum(0, d.Source.Addr().AsSlice())
	total = sum(total, d.To.Addr().AsSlice())
	total += 17 + uint32(8+len(d.Payload))
	check := ^fold(sum(total, w.block[at:]))
	if check == 0 {
		check = 0xffff // 0 says that there is none
	}
	be.PutUint16(w.block[at+6:], check)
}

// sum adds 16 bits at a time (RFC 1071). It cannot overflow: 64 KiB are 2¹⁵ times 2¹⁶.
func sum(total uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	return total
}

func fold(total uint32) uint16 {
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// begin starts a block, and returns where; its length is put there by endFrom.
func (w *Writer) begin(kind uint32) int {
	at := len(w.block)
	w.u32(kind)
	w.u32(0)
	return at
}

func (w *Writer) end() { w.endFrom(0) }

func (w *Writer) endFrom(at int) {
	total := uint32(len(w.block) - at + 4)
	binary.LittleEndian.PutUint32(w.block[at+4:], total)
	w.u32(total)
}

func (w *Writer) u16(n uint16) { w.block = binary.LittleEndian.AppendUint16(w.block, n) }
func (w *Writer) u32(n uint32) { w.block = binary.LittleEndian.AppendUint32(w.block, n) }

func (w *Writer) reserve() int {
	w.u32(0)
	return len(w.block) - 4
}

func (w *Writer) option(code uint16, value []byte) {
	w.u16(code)
	w.u16(uint16(len(value)))
	w.block = append(w.block, value...)
	w.pad()
}

// pad fills up to four bytes: all before it is of whole words.
func (w *Writer) pad() {
	for len(w.block)%4 != 0 {
		w.block = append(w.block, 0)
	}
}

func (w *Writer) flush() error {
	if _, err := w.out.Write(w.block); err != nil {
		w.failed = fmt.Errorf("write the capture: %w", err)
	} else {
		w.written += int64(len(w.block))
	}
	w.block = w.block[:0]
	return w.failed
}
