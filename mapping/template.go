package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseTemplate takes a group template apart:
//
//  1. host and port at the last colon, the host's brackets off;
//  2. each part into literal text and the expressions between it;
//  3. expressions to programs, and where in the address each value belongs; what of their
//     names are fields of the payload;
//  4. expressions without captures to the values they always have;
//  5. the address, as far as it is then fixed, must be one of its kind.
//
// Most groups of a long list hold no expression, and are read in one step.
func parseTemplate(s string, kind targetKind) (*template, error) {
	if group, err := netip.ParseAddrPort(s); err == nil && group.Port() != 0 && kind.check(group.Addr(), s) == nil {
		t := &template{kind: kind, port: group.Port(), ipv6: group.Addr().Is6(), known: true}
		copy(t.address[:], group.Addr().AsSlice())
		return t, nil
	}
	host, port, ipv6, err := splitHostPort(s)
	switch {
	case errors.Is(err, errNoPort) && kind == hostTarget:
		return nil, errors.New("has no port; write address:port, as in 192.0.2.7:5683 or [2001:db8::7]:5683")
	case err != nil:
		return nil, err
	}
	t := &template{kind: kind, ipv6: ipv6}
	if err := t.parseHost(host); err != nil {
		return nil, err
	}
	if err := t.parsePort(port); err != nil {
		return nil, err
	}
	if err := t.separate(); err != nil {
		return nil, err
	}
	if err := t.fold(); err != nil {
		return nil, err
	}
	first := func(f field) bool { return f.offset == 0 }
	if t.whole || slices.ContainsFunc(t.fields, first) {
		return t, nil
	}
	// The first byte, with IPv6 the first two, tell multicast from the rest. Of a host the
	// others may still matter; that shows for each topic.
	if kind == hostTarget && t.computed() && !toAddr(t.address, t.ipv6).IsMulticast() {
		return t, nil
	}
	if err := kind.check(toAddr(t.address, t.ipv6), host); err != nil {
		return nil, err
	}
	return t, nil
}

// parseHost reads the address. netip judges the syntax, with a 0 in the place
// of each expression; where a 1 in its place makes a difference is where the
// expression's value belongs, also behind a "::".
func (t *template) parseHost(s string) error {
	h, err := parseHoles(s, &t.names)
	if err != nil {
		return err
	}
	if t.whole = len(h.code) == 1 && h.literal[0] == "" && h.literal[1] == ""; t.whole {
		if _, bare := h.code[0].bare(); !bare {
			return fmt.Errorf("%s is a number, not an address; only a capture or a field alone can be the whole address", s)
		}
		t.known = t.ipv6
		return nil
	}
	t.known = true
	if strings.Contains(strings.Join(h.literal, ""), "%") {
		return t.kind.errZone()
	}
	base, ok := t.parseAddr(h.fill(-1))
	if !ok {
		return t.notAnAddress(s)
	}
	for i := range h.code {
		marked, ok := t.parseAddr(h.fill(i))
		if !ok || !h.fillsPart(i) {
			return t.notAnAddress(s)
		}
		f := field{text: h.text[i], code: h.code[i], max: 255}
		for marked[f.offset] == base[f.offset] {
			f.offset++
		}
		if t.ipv6 && !h.besideDot(i) {
			f.offset, f.max = f.offset-1, 0xffff // the 1 stood in the low byte
		}
		t.fields = append(t.fields, f)
	}
	t.address = base
	return nil
}

func (t *template) parseAddr(s string) (address [16]byte, ok bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is6() != t.ipv6 {
		return address, false
	}
	copy(address[:], a.AsSlice())
	return address, true
}

func (t *template) notAnAddress(s string) error {
	if t.ipv6 {
		return fmt.Errorf("%s is no IPv6 address; between its colons stand 1 to 4 hexadecimal digits or one {…}", quote(s))
	}
	return fmt.Errorf("%s is no IPv4 address; each of its four octets is 0 to 255 (no leading zeros) or one {…}", quote(s))
}

func (t *template) parsePort(s string) error {
	h, err := parseHoles(s, &t.names)
	if err != nil {
		return err
	}
	if len(h.code) == 1 && h.literal[0] == "" && h.literal[1] == "" {
		t.fields = append(t.fields, field{text: s, code: h.code[0], offset: atPort, min: 1, max: 65535})
		return nil
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("port %s is not 1 to 65535, nor one {…}", quote(s))
	}
	t.port = uint16(port)
	return nil
}

// fold puts in place what neither captures nor payloads can change.
func (t *template) fold() error {
	var dynamic []field
	for _, f := range t.fields {
		if !f.code.constant() {
			dynamic = append(dynamic, f)
			continue
		}
		value, err := f.value(nil, nil, nil)
		if err != nil {
			return errors.New(err.reason())
		}
		f.put(value, &t.address, &t.port)
	}
	t.fields = dynamic
	return nil
}

// Holes is a text with expressions in it: literal[0] {0} literal[1] {1} … literal[n].
type holes struct {
	literal []string
	text    []string // of each expression, with its braces
	code    []program
}

func parseHoles(s string, names *[]string) (h holes, err error) {
	for {
		literal, rest, open := strings.Cut(s, "{")
		h.literal = append(h.literal, literal)
		if strings.Contains(literal, "}") {
			return h, fmt.Errorf("} without { in %s", quote(s))
		}
		if !open {
			return h, nil
		}
		expr, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return h, fmt.Errorf("{ without } in %s", quote(s))
		}
		code, err := compileExpr(expr, names)
		if err != nil {
			return h, err
		}
		h.text = append(h.text, "{"+expr+"}")
		h.code = append(h.code, code)
		s = rest
	}
}

// fill returns the text with a 1 in place of expression one, a 0 in place of the others.
func (h holes) fill(one int) string {
	s := h.literal[0]
	for i := range h.code {
		digit := "0"
		if i == one {
			digit = "1"
		}
		s += digit + h.literal[i+1]
	}
	return s
}

// fillsPart reports whether expression i has a separator or nothing on either side.
func (h holes) fillsPart(i int) bool {
	before, after := h.literal[i], h.literal[i+1]
	return (before == "" && i == 0 || strings.HasSuffix(before, ".") || strings.HasSuffix(before, ":")) &&
		(after == "" && i == len(h.code)-1 || strings.HasPrefix(after, ".") || strings.HasPrefix(after, ":"))
}

// besideDot reports whether expression i is an octet, in an IPv6 address that ends in dotted form.
func (h holes) besideDot(i int) bool {
	return strings.HasSuffix(h.literal[i], ".") || strings.HasPrefix(h.literal[i+1], ".")
}
