package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"topicast/bridge/multicast"
)

func TestPrintableIsHarmlessOnATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		`{"on": true}`: `{"on": true}`,
		"grün 灯":       "grün 灯",
		"\x1b[2J":      `\x1b[2J`,
		"a\nb\tc\r":    `a\nb\tc\r`,
		"\u009b31m":    `\u009b31m`, // CSI in one character
		"a\u202eb":     `a\u202eb`,  // writes from right to left
		"\x00\x7f":     `\x00\x7f`,
		"\xff\xc2":     `\xff\xc2`,    // not UTF-8
		"\ufffd":       "\ufffd",      // is UTF-8
		`back\slash`:   `back\\slash`, // or \n could be two characters or one
		"\U000e0041":   `\U000e0041`,  // a tag: nothing to see
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b\xff")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range printable(text) {
			if !unicode.IsPrint(r) {
				t.Errorf("printable(%q) has %U", text, r)
			}
		}
	})
}

func TestJSONIsHarmlessOnATerminalAndMeansTheSame(t *testing.T) {
	for _, payload := range []string{"", `{"on": true}`, "\x1b[2J", "\u009b31m\u202e\x7f", "\U000e0041 灯", "\xff\x00", "</script>"} {
		var b strings.Builder
		p := &printer{out: &b, format: formatJSON, on: "iso0"}
		d := multicast.Datagram{Payload: []byte(payload), To: netip.MustParseAddrPort("239.1.2.3:5000"), Source: netip.MustParseAddrPort("[fd17::1]:4000")}
		if err := p.print(d, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		line, ended := strings.CutSuffix(b.String(), "\n")
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%q: %U in %s", payload, r, line)
			}
		}
		var got datagramJSON
		if err := json.Unmarshal([]byte(line), &got); err != nil || !ended {
			t.Errorf("%q: %v in %q", payload, err, b.String())
			continue
		}
		text := string(got.Base64)
		if got.Payload != nil {
			text += *got.Payload
		}
		if text != payload || got.Size != len(payload) || got.Source != d.Source || got.Interface != "iso0" {
			t.Errorf("%q: %s", payload, line)
		}
	}
}

func TestCountKnowsOneFromMany(t *testing.T) {
	for n, want := range map[int]string{0: "0 rules", 1: "1 rule", 2: "2 rules"} {
		if got := count(n, "rule"); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestColumnsAlignByCharactersNotBytes(t *testing.T) {
	table := newTable("NAME", "GROUP", "MORE")
	table.row("tür/灯", "239.1.2.3:5000", "")
	table.row("a\x1bb", 7, "x")
	var b strings.Builder
	if err := table.print(&b); err != nil {
		t.Fatal(err)
	}
	want := `NAME    GROUP           MORE
tür/灯   239.1.2.3:5000
a\x1bb  7               x
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestTheLinkersVersionGoesBeforeTheModules(t *testing.T) {
	defer func(was string) { version = was }(version)
	version = "v1.2.3"
	if got := buildVersion(); got != "v1.2.3" {
		t.Errorf("got %s", got)
	}
	if _, out, _ := topicast(t, "--version"); out != "topicast v1.2.3\n" {
		t.Errorf("--version prints %q", out)
	}
}
