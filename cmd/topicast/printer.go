package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"topicast/bridge/multicast"
)

const (
	formatText = "text"
	formatHex  = "hex"
	formatJSON = "json"
)

var formats = []string{formatText, formatHex, formatJSON}

// printer prints datagrams, one a line.
type printer struct {
	out     io.Writer
	format  string
	on      string // the interface they arrive on
	several bool   // they are of several groups, or for several addresses of this host, so each line names its own
}

func (p *printer) print(d multicast.Datagram, at time.Time) error {
	if p.format == formatJSON {
		return p.json(d, at)
	}
	payload := printable(string(d.Payload))
	if p.format == formatHex {
		payload = fmt.Sprintf("% x", d.Payload)
	}
	whose := fmt.Sprintf("%-21s", d.Source)
	if p.several {
		whose += fmt.Sprintf("  %-21s", d.To)
	}
	line := fmt.Sprintf("%s  %s  %s  %9s  %s", at.Format("15:04:05.000000"), whose, p.on, count(len(d.Payload), "byte"), payload)
	_, err := fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	return err
}

// datagramJSON is what --format json prints. Names may be added to it, not
// changed.
type datagramJSON struct {
	Time      time.Time       `json:"time"`
	Source    netip.AddrPort  `json:"source"`
	Group     *netip.AddrPort `json:"group,omitempty"`
	To        *netip.AddrPort `json:"destination,omitempty"` // in its place, of what came to this host itself
	Interface string          `json:"interface"`
	Size      int             `json:"size"` // of the payload, in bytes
	Payload   *string         `json:"payload,omitempty"`
	Base64    []byte          `json:"payload_base64,omitempty"` // instead, where it is not UTF-8
}

func (p *printer) json(d multicast.Datagram, at time.Time) error {
	j := datagramJSON{Time: at, Source: d.Source, Group: &d.To, Interface: p.on, Size: len(d.Payload)}
	if !d.To.Addr().IsMulticast() {
		j.Group, j.To = nil, &d.To
	}
	if utf8.Valid(d.Payload) {
		text := string(d.Payload)
		j.Payload = &text
	} else {
		j.Base64 = d.Payload
	}
	line, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "%s\n", escapeJSON(line))
	return err
}

// escapeJSON escapes what JSON leaves as it is and a terminal may obey: control
// characters above 0x7f, and marks that reverse the direction of writing.
func escapeJSON(line []byte) string {
	var b strings.Builder
	for _, r := range string(line) {
		switch {
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff: // a pair of surrogates (RFC 8259 section 7)
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
