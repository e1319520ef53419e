package mapping

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Group is a group template: a multicast address and port in which an octet
// of IPv4, a 16-bit group of IPv6, or the port may be {…}, an expression over
// the filter's captures and fields of the payload (targetfield.go):
//
//	239.1.2.3:5000
//	239.10.{floor}.{id}:30000
//	[ff15::{id}]:{30000+id}     id 10 gives ff15::a, the group of value 10
//	{address}:5000              the capture is a whole address
//	[{address}]:5000            the same, IPv6 only
//	239.10.{u8@4}.{json:/id}:30000
//
// The zero Group is no group. An immutable value.
type Group struct {
	text string
	*template
}

// A template is a Group taken apart: the bytes of the address and the port as
// far as they are fixed, and the fields that captures fill in.
type template struct {
	kind    targetKind
	names   []string  // the captures used; expressions know them by index
	payload []extract // the fields of the payload used; their indexes are those behind
	fields  []field
	address [16]byte // IPv4: the first 4 bytes alone
	port    uint16
	ipv6    bool
	whole   bool // the whole address is capture 0, or
	known   bool // ipv6 is so; else it may be either

	fieldWhole bool // the first of payload
}

// A field is a part of the template that an expression fills in.
type field struct {
	text   string // the expression as written, with its braces
	code   program
	offset int // of its bytes in the address, or atPort
	min    int64
	max    int64
}

const atPort = -1

// ParseGroup reads a group template. What can never be a group is an error here;
// what depends on captures is checked for each topic.
func ParseGroup(s string) (Group, error) {
	t, err := parseTemplate(s, groupTarget)
	if err != nil {
		if slip := groupSlip(s, false); slip != nil {
			err = slip
		}
		return Group{}, fmt.Errorf("group %s: %w", quote(s), err)
	}
	return Group{s, t}, nil
}

// String returns the template as written.
func (g Group) String() string { return g.text }

// IsZero reports whether g is the zero Group.
func (g Group) IsZero() bool { return g.template == nil }

// Equal reports whether two templates are written alike.
func (g Group) Equal(other Group) bool { return g.text == other.text }

// Captures returns the names of the captures it uses, each once.
func (g Group) Captures() []string {
	if g.IsZero() {
		return nil
	}
	return slices.Clone(g.names)
}

// Fixed returns the group if it does not depend on captures or payloads.
func (g Group) Fixed() (group netip.AddrPort, ok bool) {
	if g.IsZero() || g.whole || len(g.fields) > 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(toAddr(g.address, g.ipv6), g.port), true
}

// computed reports whether captures or payloads have a part in the address.
func (t *template) computed() bool {
	return t.whole || slices.ContainsFunc(t.fields, func(f field) bool { return f.offset != atPort })
}

// Prefix returns the smallest prefix that all groups of the template lie in, as far
// as that shows without its captures; of a whole address that is a capture, the zero
// Prefix.
func (g Group) Prefix() netip.Prefix {
	if g.IsZero() || g.whole {
		return netip.Prefix{}
	}
	length := 4
	if g.ipv6 {
		length = 16
	}
	for _, f := range g.fields {
		if f.offset != atPort {
			length = min(length, f.offset)
		}
	}
	p, err := toAddr(g.address, g.ipv6).Prefix(8 * length)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Family reports whether the group is an IPv6 one; known is false where the whole
// address is a capture and may be either.
func (g Group) Family() (ipv6, known bool) {
	if g.IsZero() {
		return false, false
	}
	return g.ipv6, g.known
}

// MarshalText returns the template as written.
func (g Group) MarshalText() ([]byte, error) { return []byte(g.text), nil }

// UnmarshalText is ParseGroup.
func (g *Group) UnmarshalText(text []byte) (err error) {
	*g, err = ParseGroup(string(text))
	return err
}

// A GroupError says why a topic, or one of its messages, gives no group: a value left its
// bounds or is not there, or the address is not multicast.
type GroupError struct {
	Group string // the rule's template, of a group or of a host
	Topic string
	Part  string // the part of the template it is about
	Value string // what that came to
	Want  string // what it may be
	Host  bool   // it is a host that the topic does not give
}

func (e *GroupError) Error() string {
	kind := groupTarget
	if e.Host {
		kind = hostTarget
	}
	return fmt.Sprintf("%s %s for topic %s: %s", kind, e.Group, quote(e.Topic), e.reason())
}

func (e *GroupError) reason() string { return e.Part + " is " + e.Value + ", not " + e.Want }

// expand returns the group that the captures give, in the order of names, and the payload and the
// properties beside it, which matter only where the template varies by them.
// It leaves the error's Group and Topic to the caller.
func (t *template) expand(captures []string, payload []byte, of Properties, ipv6 bool) (netip.AddrPort, *GroupError) {
	address, port := t.address, t.port
	var buffer [8 + maxTargetFields]operand
	operands := numbers(buffer[:0], captures)
	if len(t.payload) > 0 {
		var err *GroupError
		if operands, err = t.fieldOperands(operands, payload, of); err != nil {
			return netip.AddrPort{}, err
		}
	}
	for i := range t.fields {
		f := &t.fields[i]
		value, err := f.value(operands, captures, t.names)
		if err != nil {
			return netip.AddrPort{}, err
		}
		f.put(value, &address, &port)
	}
	host := toAddr(address, t.ipv6)
	if t.whole {
		var err *GroupError
		if t.fieldWhole {
			host, err = t.wholeField(payload, of, ipv6)
		} else {
			host, err = wholeHost(captures[0], t.names[0], ipv6)
		}
		if err != nil {
			return netip.AddrPort{}, err
		}
	}
	want := t.kind.want(host)
	if host == broadcast && t.kind == hostTarget && t.computed() {
		want = "one host: the broadcast address is for a rule that names it as it is"
	}
	if want != "" {
		return netip.AddrPort{}, &GroupError{Part: "the address", Value: host.String(), Want: want}
	}
	return netip.AddrPortFrom(host, port), nil
}

// value runs the field's expression on the captures as operands, and holds it to
// its bounds.
func (f *field) value(operands []operand, captures, names []string) (int64, *GroupError) {
	value, blame, trouble := f.code.run(operands)
	switch {
	case trouble != "" && blame >= 0:
		return 0, &GroupError{Part: "{" + names[blame] + "}", Value: quote(captures[blame]), Want: trouble}
	case trouble == "" && f.min <= value && value <= f.max:
		return value, nil
	case trouble == "":
		trouble = strconv.FormatInt(value, 10)
	}
	return 0, &GroupError{Part: f.text, Value: trouble, Want: fmt.Sprintf("%d to %d", f.min, f.max)}
}

// put writes a value that is within the field's bounds to its place.
func (f *field) put(value int64, address *[16]byte, port *uint16) {
	switch {
	case f.offset == atPort:
		*port = uint16(value)
	case f.max > 255:
		address[f.offset], address[f.offset+1] = byte(value>>8), byte(value)
	default:
		address[f.offset] = byte(value)
	}
}

// wholeHost reads a capture as an address.
func wholeHost(value, name string, ipv6 bool) (netip.Addr, *GroupError) {
	// A zone is refused before it is parsed, as netip keeps every zone it sees.
	if host, err := netip.ParseAddr(value); !strings.Contains(value, "%") && err == nil && host.Is6() == ipv6 {
		return host, nil
	}
	want := "an IPv4 address"
	if ipv6 {
		want = "an IPv6 address without a zone"
	}
	return netip.Addr{}, &GroupError{Part: "{" + name + "}", Value: quote(value), Want: want}
}
