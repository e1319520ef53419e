package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/internal/frame"
)

var at = time.Unix(1_900_000_000, 123_456_789)

func datagram(i int) Datagram {
	d := Datagram{At: at.Add(time.Duration(i) * time.Millisecond), Interface: "iso0", Source: netip.MustParseAddrPort("172.17.0.1:4000"), To: netip.MustParseAddrPort("239.1.2.3:5000"),
		Payload: fmt.Appendf(nil, "message %d", i), TTL: 3, Comments: []string{fmt.Sprintf("rule lamps: sent %d", i)}}
	if i%2 == 1 {
		d.Interface, d.Source, d.To = "eth1", netip.MustParseAddrPort("[fd17::1]:4000"), netip.MustParseAddrPort("[ff15::7]:5000")
	}
	return d
}

// file is one of ours with some datagrams.
func file(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, "topicast test", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := w.Write(datagram(i)); err != nil {
			t.Fatal(err)
		}
	}
	if w.Size() != int64(b.Len()) {
		t.Errorf("%d bytes, and %d are told", b.Len(), w.Size())
	}
	return b.Bytes()
}

// all reads a file to its end.
func all(b []byte) (list []Packet, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for {
		p, err := r.Next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return list, err
		}
		p.Bytes = slices.Clone(p.Bytes)
		list = append(list, p)
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	list, err := all(file(t, 5))
	if err != nil || len(list) != 5 {
		t.Fatalf("%d packets, %v", len(list), err)
	}
	var r frame.Reader
	for i, p := range list {
		want := datagram(i)
		packet, ok := p.Link.Inner(p.Bytes)
		got := r.Read(packet, p.At)
		if !ok || got.Kind != frame.Datagram || got.Source != want.Source || got.To != want.To || !bytes.Equal(got.Payload, want.Payload) || got.TTL != 3 || !p.At.Equal(want.At) || p.Whole != len(p.Bytes) {
			t.Errorf("%d: %v %+v", i, p.At, got)
		}
	}
}

// tool runs a program that reads captures, if it is there.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not there", name)
	}
	var errOut bytes.Buffer
	c := exec.Command(name, args...)
	c.Stderr = &errOut
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, errOut.String())
	}
	return string(out)
}

// tcpdump is an independent reader: it checks lengths and checksums.
func TestTcpdumpReadsWhatIsWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, file(t, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "tcpdump", "-n", "-e", "-vvv", "-tt", "--nano", "-A", "-r", name)
	for _, want := range []string{
		"1900000000.123456789 00:00:00:00:00:00 > 01:00:5e:01:02:03, ethertype IPv4 (0x0800), length 51: (tos 0x0, ttl 3, id 0, offset 0, flags [DF], proto UDP (17), length 37)",
		"172.17.0.1.4000 > 239.1.2.3.5000: [udp sum ok] UDP, length 9", "message 0",
		"1900000000.124456789 00:00:00:00:00:00 > 33:33:00:00:00:07, ethertype IPv6 (0x86dd), length 71: (hlim 3, next-header UDP (17) payload length: 17) fd17::1.4000 > ff15::7.5000: [udp sum ok] UDP, length 9",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "bad") {
		t.Errorf("%s", out)
	}
}

func TestWiresharkShowsTheInterfaceAndTheComment(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, file(t, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "tshark", "-r", name, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-e", "frame.time_epoch")
	if want := "iso0\trule lamps: sent 0\t1900000000.123456789\neth1\trule lamps: sent 1\t1900000000.124456789\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// What is said of a datagram and of the file is found by the programs that people have.
func TestWiresharkShowsEachCommentTheDirectionAndWhatIsMissing(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, "topicast test", "what the file is", 0)
	if err != nil {
		t.Fatal(err)
	}
	d := datagram(0)
	d.Comments, d.Direction, d.Missed, d.Interface = []string{"one", "two"}, Inbound, 7, ""
	other := datagram(1)
	other.Direction = Outbound
	if err := errors.Join(w.Write(d), w.Write(other), w.End("what was missed")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "tshark", "-r", name, "-T", "fields", "-e", "frame.comment", "-e", "frame.packet_flags_direction", "-e", "frame.drop_count")
	if want := "one,two\t0x00000001\t7\nrule lamps: sent 1\t0x00000002\t\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	out = tool(t, "capinfos", name)
	for _, want := range []string{"what the file is", "topicast test", "Number of packets:   2", "Number of stat entries = 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestAFileIsBoundedInBytes(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, "x", "", 400+endRoom)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil && n < 100; n++ {
		err = w.Write(datagram(0))
	}
	if !errors.Is(err, ErrFull) || b.Len() > 400 || w.Size() != int64(b.Len()) {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
	small := datagram(0)
	small.Payload, small.Comments = nil, nil
	if err := w.Write(small); !errors.Is(err, ErrFull) {
		t.Errorf("a small one after it is full: %v", err)
	}
	if list, err := all(b.Bytes()); err != nil || len(list) != n-1 {
		t.Errorf("%d packets of %d, %v", len(list), n-1, err)
	}
	// There is room for what is to be said at the end.
	if err := w.End(strings.Repeat("x", 1<<20)); err != nil || b.Len() > 400+endRoom || w.Size() != int64(b.Len()) {
		t.Errorf("the end: %v, %d bytes", err, b.Len())
	}
	if list, err := all(b.Bytes()); err != nil || len(list) != n-1 {
		t.Errorf("with its end %d packets of %d, %v", len(list), n-1, err)
	}
}

func TestWhatNoPacketCanBeMadeOfIsRefusedAndTheRestWritten(t *testing.T) {
	var b bytes.Buffer
	w, _ := NewWriter(&b, "x", "", 0)
	mixed, long4, long6, whole := datagram(0), datagram(0), datagram(1), datagram(1)
	mixed.Source = netip.MustParseAddrPort("[fd17::1]:1")
	long4.Payload, long6.Payload, whole.Payload = make([]byte, 65508), make([]byte, 65528), make([]byte, 65527)
	for _, d := range []Datagram{mixed, long4, long6, {}} {
		if err := w.Write(d); err == nil {
			t.Errorf("%s > %s, %d bytes", d.Source, d.To, len(d.Payload))
		}
	}
	whole.Comments = slices.Repeat([]string{strings.Repeat("é", 1<<20)}, 1000)
	if err := w.Write(whole); err != nil {
		t.Error(err)
	}
	if list, err := all(b.Bytes()); err != nil || len(list) != 1 || len(list[0].Bytes) != 14+40+8+65527 || b.Len() > 65_900+maxComments*(maxComment+4) {
		t.Errorf("%d packets, %v, %d bytes", len(list), err, b.Len())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnErrorOfTheFileEndsIt(t *testing.T) {
	w, err := NewWriter(fullDisk{}, "x", "", 0)
	if err == nil || !strings.Contains(err.Error(), "no space left") || w.Write(datagram(0)) == nil {
		t.Errorf("%v", err)
	}
}

// pcapFile is a file of pcap with two packets.
func pcapFile(order binary.AppendByteOrder, magic uint32, fraction uint32, link uint32) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	for _, n := range []uint32{0, 0, 65535, link} {
		b = order.AppendUint32(b, n)
	}
	for i := range uint32(2) {
		for _, n := range []uint32{1_900_000_000 + i, fraction, 5, 9} {
			b = order.AppendUint32(b, n)
		}
		b = append(b, "hello"...)
	}
	return b
}

func TestPcapIsReadInBothByteOrdersAndResolutions(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
		for magic, nanoseconds := range map[uint32]int64{0xa1b2c3d4: 5000, 0xa1b23c4d: 5} {
			list, err := all(pcapFile(order, magic, 5, 0xf0000000|uint32(frame.LinkLinuxSLL2)))
			if err != nil || len(list) != 2 {
				t.Fatalf("%v %x: %d, %v", order, magic, len(list), err)
			}
			p := list[1]
			if want := time.Unix(1_900_000_001, nanoseconds); !p.At.Equal(want) || p.Link != frame.LinkLinuxSLL2 || string(p.Bytes) != "hello" || p.Whole != 9 {
				t.Errorf("%v %x: %+v", order, magic, p)
			}
		}
	}
}

// block is one of pcapng.
func block(order binary.AppendByteOrder, kind uint32, body ...[]byte) []byte {
	all := slices.Concat(body...)
	for len(all)%4 != 0 {
		all = append(all, 0)
	}
	total := uint32(12 + len(all))
	b := order.AppendUint32(order.AppendUint32(nil, kind), total)
	return order.AppendUint32(append(b, all...), total)
}

func words(order binary.AppendByteOrder, ns ...uint32) (b []byte) {
	for _, n := range ns {
		b = order.AppendUint32(b, n)
	}
	return b
}

func section(order binary.AppendByteOrder) []byte {
	version := order.AppendUint16(order.AppendUint16(nil, 1), 0)
	return block(order, blockSection, words(order, byteOrderMagic), version, bytes.Repeat([]byte{0xff}, 8))
}

func description(order binary.AppendByteOrder, link uint16, options ...[]byte) []byte {
	return block(order, blockInterface, order.AppendUint16(order.AppendUint16(nil, link), 0), words(order, 0), slices.Concat(options...))
}

func option(order binary.AppendByteOrder, code uint16, value []byte) []byte {
	b := append(order.AppendUint16(order.AppendUint16(nil, code), uint16(len(value))), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestPcapngIsReadWithItsSectionsInterfacesAndClocks(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
		offset := make([]byte, 8)
		order.(binary.ByteOrder).PutUint64(offset, 100)
		b := slices.Concat(
			section(order),
			description(order, 1), // microseconds
			description(order, 101, option(order, optionName, []byte("eth0")), option(order, optionResolution, []byte{0x8a}), option(order, optionOffset, offset), option(order, optionEnd, nil)), // 1/1024 s
			block(order, 5, words(order, 0, 0, 0)), // statistics
			block(order, blockPacket, words(order, 0, 0, 2_000_001, 5, 9), []byte("hello\x00\x00\x00"), option(order, optionComment, []byte("x"))),
			block(order, blockPacket, words(order, 1, 0, 1024+512, 5, 5), []byte("hello")),
			block(order, blockOldPacket, order.AppendUint16(order.AppendUint16(nil, 1), 7), words(order, 0, 2048, 5, 5), []byte("hello")),
			block(order, blockSimple, words(order, 5), []byte("hello")),
			section(binary.LittleEndian),
			description(binary.LittleEndian, 113),
			block(binary.LittleEndian, blockPacket, words(binary.LittleEndian, 0, 0, 7, 5, 5), []byte("hello")),
		)
		list, err := all(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			when := "none"
			if !p.At.IsZero() {
				when = fmt.Sprint(p.At.UnixNano())
			}
			got = append(got, fmt.Sprintf("%d %s %s %d", p.Link, when, p.Bytes, p.Whole))
		}
		want := []string{"1 2000001000 hello 9", "101 101500000000 hello 5", "101 102000000000 hello 5", "1 none hello 5", "113 7000 hello 5"}
		if !slices.Equal(got, want) {
			t.Errorf("%v: %q\nwant %q", order, got, want)
		}
	}
}

// A file that ends anywhere gives its packets up to there, and then says where and why.
func TestAFileThatIsCutGivesWhatIsThereAndSaysWhere(t *testing.T) {
	for name, whole := range map[string][]byte{"pcap": pcapFile(binary.LittleEndian, 0xa1b2c3d4, 5, 1), "pcapng": file(t, 2)} {
		ends := 0
		for n := range len(whole) {
			list, err := all(whole[:n])
			switch {
			case err == nil: // between two packets
				ends++
			case n < 4 && !errors.Is(err, ErrNoCapture), n >= 4 && !errors.Is(err, ErrDamaged):
				t.Errorf("%s cut at %d: %v", name, n, err)
			case errors.Is(err, ErrDamaged) && !strings.Contains(err.Error(), fmt.Sprintf(" (packets before: %d): it ends in the middle of ", len(list))):
				t.Errorf("%s cut at %d: %d packets, %v", name, n, len(list), err)
			}
		}
		if ends < 1 || ends > 4 {
			t.Errorf("%s: good at %d places", name, ends)
		}
	}
}

func TestDamageIsNamed(t *testing.T) {
	order := binary.LittleEndian
	head := slices.Concat(section(order), description(order, 1))
	packet := block(order, blockPacket, words(order, 0, 0, 7, 5, 5), []byte("hello"))
	wrongEnd := slices.Clone(packet)
	wrongEnd[len(wrongEnd)-4]++
	pcap := pcapFile(order, 0xa1b2c3d4, 5, 1)
	with := func(at int, n uint32) []byte {
		b := slices.Clone(pcap)
		order.PutUint32(b[at:], n)
		return b
	}
	for want, b := range map[string][]byte{
		"no capture file: it is empty":                               nil,
		"no capture file: it begins with 1f 8b 08 00, as neither":    {0x1f, 0x8b, 8, 0, 0},
		"a packet of 4294967295 bytes":                               with(32, 1<<32-1),
		"a packet of 262145 bytes":                                   with(32, maxPacket+1),
		"a time of 1900000000 and 1000000 parts of a second":         with(28, 1_000_000),
		"version 3 of pcap":                                          with(4, 3),
		"a packet of interface 0, of 0":                              slices.Concat(section(order), packet),
		"a packet of 4000000000 bytes in a block of 28":              slices.Concat(head, block(order, blockPacket, words(order, 0, 0, 7, 4_000_000_000, 5), []byte("hello"))),
		"a block of 40 bytes ends with a length of 41":               slices.Concat(head, wrongEnd),
		"a block of 13 bytes":                                        slices.Concat(head, words(order, 99, 13, 0, 0)),
		"a block of 8 bytes":                                         slices.Concat(head, words(order, 99, 8, 0, 0)),
		"a section without a byte order":                             slices.Concat(words(order, blockSection, 28, 7, 7, 7, 7, 28)),
		"version 2 of pcapng":                                        block(order, blockSection, words(order, byteOrderMagic, 2), make([]byte, 8)),
		"the head of a section of 24 bytes":                          block(order, blockSection, words(order, byteOrderMagic, 1), make([]byte, 4), nil),
		"the description of an interface of 4 bytes":                 slices.Concat(head, block(order, blockInterface, words(order, 0))),
		"the description of an interface of 131080 bytes":            slices.Concat(head, description(order, 1, make([]byte, 128<<10))),
		"times in units of 0x7f":                                     slices.Concat(section(order), description(order, 1, option(order, optionResolution, []byte{0x7f}))),
		"a simple packet of 8 bytes, with 0 interfaces":              slices.Concat(section(order), block(order, blockSimple, words(order, 4), []byte("hell"))),
		"more than 4096 interfaces":                                  slices.Concat(section(order), bytes.Repeat(description(order, 1), maxInterfaces+1)),
		"it ends in the middle of a block, of which 4294967000 byte": slices.Concat(head, words(order, 99, 4294967012)),
	} {
		_, err := all(b)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoCapture) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// endless is a file with no end: the same packet again and again.
type endless struct {
	head, again []byte
	left        int
}

func (e *endless) Read(b []byte) (n int, err error) {
	if n = copy(b, e.head); n > 0 {
		e.head = e.head[n:]
		return n, nil
	}
	if e.left--; e.left < 0 {
		return 0, io.EOF
	}
	e.head = e.again
	return e.Read(b)
}

func TestALongFileTakesNoMoreMemoryThanAShortOne(t *testing.T) {
	order := binary.LittleEndian
	again := slices.Concat(block(order, blockPacket, words(order, 0, 0, 7, 60_000, 60_000), make([]byte, 60_000)), block(order, 99, make([]byte, 200_000)))
	r, err := NewReader(&endless{head: slices.Concat(section(order), description(order, 1)), again: again, left: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 1
	for ; err == nil; n++ {
		_, err = r.Next()
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; err != io.EOF || n < 2000 || grown > 32<<20 { // of 520 MB; under the race detector pools give little back
		t.Errorf("%d packets, %v: %d bytes were taken", n, err, grown)
	}
}

// FuzzReader holds that no file makes it crash, read for ever or take more memory than a
// packet may.
func FuzzReader(f *testing.F) {
	f.Add(file(f, 3))
	f.Add(pcapFile(binary.BigEndian, 0xa1b23c4d, 5, 1))
	order := binary.BigEndian
	f.Add(slices.Concat(section(order), description(order, 1, option(order, optionResolution, []byte{0x8a})), block(order, blockSimple, words(order, 5), []byte("hello"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		for n := 0; err == nil; n++ {
			var p Packet
			if p, err = r.Next(); len(p.Bytes) > maxPacket || n > len(b) {
				t.Fatalf("%d bytes, packet %d", len(p.Bytes), n)
			}
		}
		if err != io.EOF && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoCapture) {
			t.Errorf("%v", err)
		}
		if r != nil && cap(r.packet) > maxPacket {
			t.Errorf("%d bytes are kept", cap(r.packet))
		}
	})
}
