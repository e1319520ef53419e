package main

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/multicast"
)

func TestListenTakesTheOnlyInterfaceAndGuessesNone(t *testing.T) {
	h := testHost()
	for _, c := range []struct {
		name       string
		interfaces []multicast.Interface
		want       string
		hint       string
	}{
		{"one beside the loopback", h.interfaces[:2], "priv0", ""},
		{"one that is up with carrier", []multicast.Interface{h.interfaces[0], h.interfaces[3], h.interfaces[4], h.interfaces[2]}, "iso0", ""},
		{"two", h.interfaces[:3], "", "name one with --interface: priv0, iso0"},
		{"the loopback alone", h.interfaces[:1], "", "name one with --interface: lo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := onlyInterface(c.interfaces)
			if got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
			var b strings.Builder
			if c.hint == "" {
				return
			}
			if status := conclude(&b, newRootCommand(), err); status != exitUsage || !strings.Contains(b.String(), "hint: "+c.hint+"\n") {
				t.Errorf("exit status %d, %s", status, b.String())
			}
		})
	}
}

func TestGroupsOfSourceSpecificMulticastNeedASource(t *testing.T) {
	source := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for _, c := range []struct {
		groups  string
		sources []netip.Addr
		want    string // the group it is about; "": none
	}{
		{"232.1.2.3:5000", nil, "232.1.2.3"},
		{"232.1.2.3:5000", source, ""},
		{"231.255.255.255:5000", nil, ""},
		{"233.0.0.1:5000", nil, ""},
		{"239.1.2.3:5000 232.1.2.4:5000", nil, "232.1.2.4"},
		{"[ff35::7]:5000", nil, "ff35::7"},
		{"[ff15::7]:5000", nil, ""},
		{"[ff35:1::7]:5000", nil, ""}, // embeds a unicast prefix (RFC 3306)
	} {
		var j listening
		for text := range strings.FieldsSeq(c.groups) {
			j.groups = append(j.groups, netip.MustParseAddrPort(text))
		}
		group, needed := j.needsSource(c.sources)
		if needed != (c.want != "") || needed && group.String() != c.want {
			t.Errorf("%s from %v: %t, %s, want %q", c.groups, c.sources, needed, group, c.want)
		}
	}
}

// failingAfter writes so many lines, and then fails.
type failingAfter struct {
	strings.Builder
	lines int
}

func (f *failingAfter) Write(p []byte) (int, error) {
	if f.lines--; f.lines < 0 {
		return 0, io.ErrShortWrite
	}
	return f.Builder.Write(p)
}

func TestListenPrintsAsManyAsAskedForOrAsCanBeWritten(t *testing.T) {
	for _, c := range []struct {
		count    int
		writable int
		want     int
		enough   bool
		err      error
	}{
		{0, 9, 6, false, nil}, {1, 9, 1, true, nil}, {2, 9, 2, true, nil}, {4, 9, 4, true, nil},
		{6, 9, 6, true, nil}, {7, 9, 6, false, nil}, {0, 2, 2, true, io.ErrShortWrite},
	} {
		out := &failingAfter{lines: c.writable}
		enough := false
		l := &tally{printer: &printer{out: out, format: formatText}, count: c.count, enough: func() { enough = true }}
		for _, burst := range []int{1, 3, 2} {
			batch := make([]multicast.Datagram, burst)
			for i := range batch {
				batch[i].Payload = []byte("x")
			}
			l.heard(batch)
		}
		lines := strings.Count(out.String(), "\n")
		if l.printed != c.want || lines != c.want || enough != c.enough || !errors.Is(l.err, c.err) {
			t.Errorf("--count %d: %d printed (%d lines), enough: %t, %v; want %+v", c.count, l.printed, lines, enough, l.err, c)
		}
	}
}
