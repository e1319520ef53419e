package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/capture"
	"topicast/internal/frame"
)

// captureFile is a file with these datagrams, a millisecond apart.
func captureFile(t *testing.T, datagrams ...capture.Datagram) string {
	t.Helper()
	var b bytes.Buffer
	w, err := capture.NewWriter(&b, "topicast test", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range datagrams {
		if d.At.IsZero() {
			d.At = time.Unix(1_900_000_000, int64(i)*1e6)
		}
		if err := w.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// captured is a datagram of somebody.
func captured(to, payload string) capture.Datagram {
	d := capture.Datagram{To: netip.MustParseAddrPort(to), Payload: []byte(payload), TTL: 1, Source: netip.MustParseAddrPort("192.0.2.7:4000")}
	if d.To.Addr().Is6() {
		d.Source = netip.MustParseAddrPort("[2001:db8::7]:4000")
	}
	return d
}

// hearing collects what comes to a group, or to a port of this host, by lo.
func hearing(t *testing.T, group string) (next func() string) {
	t.Helper()
	r, err := multicast.Listen(multicast.ReceiverOptions{Group: netip.MustParseAddrPort(group)}, multicast.Interface{Name: "lo", Index: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	heard := make(chan string, 100)
	go func() {
		for batch := make([]multicast.Datagram, 1); ; {
			if _, err := r.Receive(batch); err != nil {
				return
			}
			heard <- fmt.Sprint(batch[0].Source.Addr(), " ", string(batch[0].Payload))
		}
	}()
	return func() string {
		select {
		case text := <-heard:
			return text
		case <-time.After(awaitAtMost):
			t.Fatalf("nothing came to %s", group)
			return ""
		}
	}
}

func TestReplaySendsTheDatagramsOfGroupsInOrderFromItsSource(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("of 127.0.0.0/8 only 127.0.0.1 is local")
	}
	file := captureFile(t, captured("239.255.31.1:5131", "one"), captured("192.0.2.9:5131", "for a host"), captured("239.255.31.2:5131", "elsewhere"),
		captured("239.255.31.1:5131", ""), captured("239.255.31.1:5131", "three"), captured("[ff15::31]:5131", "IPv6"))
	next := hearing(t, "239.255.31.1:5131")
	status, out, errOut := topicast(t, "replay", file, "--source", "127.0.0.5")
	if status != exitDone || !strings.HasPrefix(out, "4 datagrams sent to 2 groups in 0.0") || !strings.Contains(out, ", from 127.0.0.5 on lo; 99 of 100 at most ") {
		t.Errorf("status %d, %q", status, out)
	}
	if want := "of 6 packets of the file these are not sent: 1 to single hosts or broadcast addresses (--hosts sends them), 1 without a source here that is of their kind\n"; !strings.HasSuffix(errOut, want) {
		t.Errorf("%q", errOut)
	}
	for _, want := range []string{"one", "", "three"} {
		if got := next(); got != "127.0.0.5 "+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	status, out, errOut = topicast(t, "replay", file, "--source", "127.0.0.5", "--group", "239.255.31.0-239.255.31.1:5131", "--speed", "0")
	if status != exitDone || !strings.HasPrefix(out, "3 datagrams sent to 1 group in ") || strings.Contains(out, "late") || !strings.Contains(errOut, ", 2 to other groups than --group") {
		t.Errorf("status %d, %q, %q", status, out, errOut)
	}
}

func TestReplaySendsToHostsWhereThatIsWanted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what comes to this host is received on Linux only")
	}
	next := hearing(t, "0.0.0.0:5132")
	file := captureFile(t, captured("127.0.0.9:5132", "for a host"))
	if status, out, _ := topicast(t, "replay", file, "--source", "127.0.0.5", "--hosts"); status != exitDone || !strings.HasPrefix(out, "1 datagram sent to 1 host in ") {
		t.Errorf("status %d, %q", status, out)
	}
	if got := next(); got != "127.0.0.5 for a host" {
		t.Errorf("%q", got)
	}
	// Sent with two sockets, it is one source.
	both := captureFile(t, captured("127.0.0.9:5132", "for a host"), captured("239.255.31.9:5132", "for a group"))
	if status, out, _ := topicast(t, "replay", both, "--source", "127.0.0.5", "--hosts"); status != exitDone || strings.Count(out, "from 127.0.0.5 on lo") != 1 {
		t.Errorf("status %d, %q", status, out)
	}
	status, _, errOut := topicast(t, "replay", file, "--source", "127.0.0.5")
	if status != exitFailed || !strings.Contains(errOut, " has nothing to send\nhint: --hosts sends what went to single hosts") {
		t.Errorf("status %d, %q", status, errOut)
	}
}

// What is to no address keeps nothing else from being sent, though it is the first of its kind.
func TestReplayLeavesOutWhatIsToNoAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what comes to this host is received on Linux only")
	}
	next := hearing(t, "0.0.0.0:5134")
	file := captureFile(t, captured("0.0.0.0:5134", "nobody"), captured("[::]:5134", "nobody"), captured("127.0.0.9:5134", "for a host"))
	status, out, errOut := topicast(t, "replay", file, "--source", "127.0.0.5", "--hosts")
	if status != exitDone || !strings.HasPrefix(out, "1 datagram sent to 1 host in ") || errOut != "topicast: note: of 3 packets of the file these are not sent: 2 malformed\n" {
		t.Errorf("status %d, %q, %q", status, out, errOut)
	}
	if got := next(); got != "127.0.0.5 for a host" {
		t.Errorf("%q", got)
	}
	if status, _, errOut := topicast(t, "replay", captureFile(t, captured("0.0.0.0:5134", "nobody")), "--source", "127.0.0.5", "--hosts"); status != exitFailed || !strings.Contains(errOut, " has nothing to send\n") {
		t.Errorf("of a file that has nothing else: status %d, %q", status, errOut)
	}
	mapped := frame.Packet{Kind: frame.Datagram, To: netip.MustParseAddrPort("[::ffff:127.0.0.9]:5134")}
	if why, ok := (&replayer{replayOptions: &replayOptions{hosts: true}}).judge(mapped); ok || why != malformed {
		t.Errorf("an address of IPv4 in a packet of IPv6: %d, %v", why, ok)
	}
}

// What stands before the damage is sent, and then the damage told.
func TestReplaySaysWhatIsWrongWithAFile(t *testing.T) {
	whole := captureFile(t, captured("239.255.31.3:5133", "one"), captured("239.255.31.3:5133", "two"))
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cut := write("cut", b[:len(b)-9])
	status, out, errOut := topicast(t, "replay", cut, "--source", "127.0.0.1")
	if status != exitFailed || !strings.HasPrefix(out, "1 datagram sent to 1 group ") || !strings.Contains(errOut, "topicast: error: "+cut+": the capture is damaged at byte ") || !strings.Contains(errOut, " (packets before: 1): it ends in the middle of ") {
		t.Errorf("status %d, %q, %q", status, out, errOut)
	}
	for _, c := range []struct{ file, says string }{
		{write("gz", []byte("\x1f\x8b\x08\x00\x00")), "/gz: no capture file: it begins with 1f 8b 08 00, as neither pcap nor pcapng does\nhint: tcpdump -w and Wireshark"},
		{write("empty", nil), "/empty: no capture file: it is empty\n"},
		{filepath.Join(dir, "none"), "/none: no such file or directory\n"},
		{captureFile(t), " has nothing to send\nhint: there is no packet in it\n"},
	} {
		if status, _, errOut := topicast(t, "replay", c.file, "--source", "127.0.0.1"); status != exitFailed || !strings.Contains(errOut, c.says) {
			t.Errorf("%s: status %d, %q", c.file, status, errOut)
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "neither --source nor --interface: name at least one, it is never guessed"},
		{[]string{"--source", "127.0.0.1", "--speed", "-1"}, "--speed is not negative"},
		{[]string{"--source", "127.0.0.1", "--speed", "NaN"}, "--speed is not negative"},
		{[]string{"--source", "127.0.0.1", "--group", "239.1.2.3"}, "has no port"},
		{[]string{"--source", "x"}, `"x" is no address`},
		{[]string{"--interface", "a*"}, "it is one interface here"},
	} {
		if status, _, errOut := topicast(t, append([]string{"replay", whole}, c.args...)...); status != exitUsage || !strings.Contains(errOut, c.says) {
			t.Errorf("%v: status %d, %q", c.args, status, errOut)
		}
	}
	if status, _, errOut := topicast(t, "replay", whole, "--interface", "nope0"); status != exitFailed || !strings.Contains(errOut, "there is no interface nope0") {
		t.Errorf("status %d, %q", status, errOut)
	}
}

// Of a packet that is no whole datagram it is told what it is.
func TestReplayCountsWhatItLeavesOutByItsReason(t *testing.T) {
	le := binary.LittleEndian
	ethernet := func(kind uint16, ip []byte) []byte {
		return append(binary.BigEndian.AppendUint16(make([]byte, 12), kind), ip...)
	}
	ip := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 1, 17, 0, 0, 192, 0, 2, 7, 239, 255, 31, 4, 1, 1, 0x14, 0x0e, 0, 9, 0, 0, 'x'}
	fragment := bytes.Clone(ip)
	fragment[6] = 0x20
	fragment[3] = 28 // whole words
	long := bytes.Clone(ip)
	long[25] = 200
	port0 := bytes.Clone(ip)
	port0[22], port0[23] = 0, 0
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 1)
	for _, f := range [][]byte{ethernet(0x0800, ip), ethernet(0x0806, ip), ethernet(0x0800, ip[:27]), ethernet(0x0800, fragment), ethernet(0x0800, long), ethernet(0x0800, port0)} {
		for _, n := range []uint32{1_900_000_000, 0, uint32(len(f)), uint32(len(f))} {
			b = le.AppendUint32(b, n)
		}
		b = append(b, f...)
	}
	file := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errOut := topicast(t, "replay", file, "--source", "127.0.0.1")
	if status != exitDone || !strings.HasPrefix(out, "1 datagram sent to 1 group ") {
		t.Errorf("status %d, %q", status, out)
	}
	for _, want := range []string{
		"topicast: note: of 6 packets of the file these are not sent: 1 no datagrams of UDP, 1 cut short when they were captured (tcpdump -s 0 takes all), 2 malformed\n",
		"topicast: warning: 1 datagram not sent, for fragments are missing\n",
	} {
		if !strings.Contains(errOut, want) {
			t.Errorf("%q does not say %q", errOut, want)
		}
	}
	le.PutUint32(b[20:], 105) // IEEE 802.11
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := topicast(t, "replay", file, "--source", "127.0.0.1"); status != exitFailed || !strings.Contains(errOut, "6 of a link that is not known") {
		t.Errorf("status %d, %q", status, errOut)
	}
}

func TestTheRhythmIsThatOfTheFileDividedBySpeed(t *testing.T) {
	for _, c := range []struct {
		speed float64
		want  []time.Duration // after the first
	}{
		{1, []time.Duration{0, 10 * time.Millisecond, 10 * time.Millisecond, time.Second, 24 * time.Hour}},
		{4, []time.Duration{0, 2500 * time.Microsecond, 2500 * time.Microsecond, 250 * time.Millisecond, 6 * time.Hour}},
		{0.5, []time.Duration{0, 20 * time.Millisecond, 20 * time.Millisecond, 2 * time.Second, 48 * time.Hour}},
		{0, []time.Duration{0, 0, 0, 0, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, began := rhythm{speed: c.speed}, time.Now()
			first := time.Unix(1_900_000_000, 0)
			for i, after := range []time.Duration{0, 10 * time.Millisecond, 5 * time.Millisecond, time.Second, 24 * time.Hour} {
				if err := r.wait(context.Background(), first.Add(after)); err != nil {
					t.Fatal(err)
				}
				r.left()
				if got := time.Since(began); got != c.want[i] {
					t.Errorf("speed %g: datagram %d after %v, want %v", c.speed, i, got, c.want[i])
				}
			}
			if r.backwards != 1 {
				t.Errorf("%d are earlier than those before", r.backwards)
			}
			if err := r.wait(context.Background(), time.Time{}); err != nil || time.Since(began) != c.want[4] {
				t.Errorf("one without a time waits: %v", err)
			}
		})
	}
}

// A datagram that is late does not make those behind it late.
// Where a clock was set while the file was captured a pause may be of years: who waits is told.
func TestALongPauseIsTold(t *testing.T) {
	o := replayOptions{sendOptions: newSendOptions(), speed: 2}
	o.source = "127.0.0.1"
	var errOut bytes.Buffer
	r, err := o.prepare(&errOut)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r.rhythm.sleep = nil
		at := time.Unix(1_900_000_000, 0)
		for _, after := range []time.Duration{0, 20 * time.Second, 3 * time.Hour} {
			if err := r.rhythm.wait(t.Context(), at.Add(after)); err != nil {
				t.Fatal(err)
			}
		}
	})
	if want := "topicast: note: the next datagram of the file is to leave in 1h29m50s: --speed makes that shorter, and 0 leaves out all pauses\n"; errOut.String() != want {
		t.Errorf("%q", errOut.String())
	}
}

func TestTheRhythmCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := rhythm{speed: 1}, time.Now()
		first := time.Unix(1_900_000_000, 0)
		for i := range 3 {
			_ = r.wait(t.Context(), first.Add(time.Duration(i)*10*time.Millisecond))
			if i == 1 {
				time.Sleep(4 * time.Millisecond) // sending takes so long
			}
			r.left()
		}
		if got := time.Since(began); got != 20*time.Millisecond || r.late.most != 4*time.Millisecond {
			t.Errorf("the third after %v, at most %v late", got, r.late.most)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.wait(ctx, first.Add(time.Hour)); err == nil || time.Since(began) != 1020*time.Millisecond {
			t.Errorf("Ctrl-C in a long pause: %v after %v", err, time.Since(began))
		}
	})
}

func TestLatenessIsThatOfAllButOneInAHundred(t *testing.T) {
	var l lateness
	for i := range 1000 {
		l.add(time.Duration(i%10) * 10 * time.Microsecond)
	}
	if got := l.within(); got != 90*time.Microsecond {
		t.Errorf("%v", got)
	}
	for range 10 {
		l.add(time.Hour)
	}
	if got := l.within(); got != 100*time.Microsecond || l.most != time.Hour {
		t.Errorf("with one in a hundred: %v", got)
	}
	for range 10 {
		l.add(3 * time.Millisecond)
	}
	if got := l.within(); got != 3100*time.Microsecond {
		t.Errorf("with two in a hundred: %v", got)
	}
}

func TestTheGroupsThatReplayCountsAreBounded(t *testing.T) {
	r := &replayer{targetsSeen: make(map[netip.AddrPort]struct{})}
	for i := range 2 * maxReplayed {
		r.note(netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 1, byte(i >> 8), byte(i)}), 5000))
	}
	if got := r.targets(); got != "4096 groups and more" {
		t.Errorf("%q", got)
	}
}
