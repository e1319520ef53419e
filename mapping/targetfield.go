package mapping

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unsafe"
)

// Fields of the payload in a group or a host: extracts, as in
//
//	239.10.{u8@4}.{json:/id}:30000
//	10.0.0.{json:/addr}:{5000 + u16@2}
//	{json:/ip}:5000                      a text that is a whole address
//
// In the same places a user property of the message may stand, {property.room}. Fields are taken from
// the message's payload as it came, before payload, prefix and suffix make the datagram of it. In an octet or a port they are numbers: of the bytes, of the
// document, or what text@ says in decimal digits. They are held to the same bounds as
// captures are, each message anew.

// maxTargetFields is how many fields of the payload a group or a host may have.
const maxTargetFields = 16

// separate takes the fields of the payload out of names, which are then the captures alone.
// Expressions know the captures by their index, and the fields behind them.
func (t *template) separate() error {
	if !slices.ContainsFunc(t.names, func(name string) bool { return strings.ContainsAny(name, "@:.") }) {
		return nil
	}
	place := make([]int, len(t.names))
	var captures []string
	for i, name := range t.names {
		e, n, err := lexExtract(name)
		switch {
		case n == 0:
			place[i] = len(captures)
			captures = append(captures, name)
			continue
		case err != nil:
			return err
		}
		place[i] = -1 - len(t.payload)
		t.payload = append(t.payload, e)
	}
	if len(t.payload) > maxTargetFields {
		return fmt.Errorf("has %d fields of the payload, and may have %d", len(t.payload), maxTargetFields)
	}
	if t.whole && place[0] < 0 {
		t.fieldWhole = true
		if err := t.payload[0].checkWhole(); err != nil {
			return err
		}
	}
	for i := range t.fields {
		f := &t.fields[i]
		for j, s := range f.code {
			if s.op != opOperand {
				continue
			}
			at := place[s.arg]
			if at < 0 {
				at = -1 - at
				if e := &t.payload[at]; e.kind == extractHex {
					return fmt.Errorf("%s: %s is a text, and here a number is wanted; write u8@%d for the number of one byte", f.text, e.text, e.offset)
				}
				at += len(captures)
			}
			f.code[j].arg = int64(at)
		}
	}
	t.names = captures
	return nil
}

// checkWhole refuses what cannot be a whole address.
func (e *extract) checkWhole() error {
	switch e.kind {
	case extractJSON, extractText, extractProperty:
		return nil
	case extractHex:
		return fmt.Errorf("{%s} is no address; write {u8@%d}.{u8@%d}.{u8@%d}.{u8@%d} for one of four bytes", e.text, e.offset, e.offset+1, e.offset+2, e.offset+3)
	}
	return fmt.Errorf("{%s} is a number, not an address; write {u8@%d}.{u8@%d}.{u8@%d}.{u8@%d} for one of four bytes", e.text, e.offset, e.offset+1, e.offset+2, e.offset+3)
}

// wholeText is what the whole address is, as written.
func (t *template) wholeText() string {
	if t.fieldWhole {
		return t.payload[0].text
	}
	return t.names[0]
}

// fieldOperands appends the values of the fields in a payload, and of the properties beside it.
func (t *template) fieldOperands(dst []operand, payload []byte, of Properties) ([]operand, *GroupError) {
	for i := range t.payload {
		if i == 0 && t.fieldWhole {
			dst = append(dst, operand{})
			continue
		}
		if e := &t.payload[i]; e.kind == extractProperty {
			o, err := e.propertyOperand(of)
			if err != nil {
				return dst, err
			}
			dst = append(dst, o)
			continue
		}
		o, err := t.payload[i].operand(payload)
		if err != nil {
			return dst, &GroupError{Part: err.Part, Value: err.Value, Want: err.Want}
		}
		dst = append(dst, o)
	}
	return dst, nil
}

// wholeField reads the field that is the whole address.
func (t *template) wholeField(payload []byte, of Properties, ipv6 bool) (netip.Addr, *GroupError) {
	e := &t.payload[0]
	var value []byte
	if e.kind == extractProperty {
		var ok bool
		if value, ok = e.property(of); !ok {
			return netip.Addr{}, e.errNoProperty()
		}
	} else if e.kind == extractJSON {
		var lack lack
		if value, lack = lookJSON(payload, e.pointer); lack.why != lackNothing {
			value = nil
		} else if value[0] == '"' {
			value = value[1 : len(value)-1] // an address needs no escapes
		}
	} else if value = e.within(payload); value != nil {
		value = trimFill(value)
	}
	if value == nil {
		err := e.missing(payload)
		return netip.Addr{}, &GroupError{Part: err.Part, Value: err.Value, Want: err.Want}
	}
	if len(value) > 0 && len(value) <= maxAddress && bytes.IndexByte(value, '%') < 0 {
		// An address without a zone keeps nothing of the text, and a string of its own would
		// be an allocation for each message.
		if host, err := netip.ParseAddr(unsafe.String(&value[0], len(value))); err == nil && host.Is6() == ipv6 {
			return host, nil
		}
	}
	return wholeHost(short(value), e.text, ipv6)
}

// maxAddress is how long an address is, written as 2001:db8:0:0:0:0:203.0.113.255 at the most.
const maxAddress = 45

// VariesByPayload reports whether the template has fields of the payload.
func (g Group) VariesByPayload() bool { return !g.IsZero() && len(g.payload) > 0 }

// A PayloadTarget gives the target of each of a topic's messages, by a rule whose group or
// host has fields of the payload. An immutable value.
type PayloadTarget struct {
	template *template
	text     string // of the template
	topic    string
	captures []string
	ipv6     bool
}

// Of returns where a message with this payload, and these properties, goes. The error is a *GroupError,
// drop(bad_group) or drop(bad_host). It allocates nothing unless there is an error, and keeps
// nothing of payload.
func (p *PayloadTarget) Of(payload []byte, of Properties) (netip.AddrPort, error) {
	to, err := p.template.expand(p.captures, payload, of, p.ipv6)
	if err != nil {
		err.Group, err.Topic, err.Host = p.text, p.topic, p.template.kind == hostTarget
		return netip.AddrPort{}, err
	}
	return to, nil
}

// checkTargetFields refuses what is one for each topic, where the messages of a topic go to
// several targets.
func (c *compilation) checkTargetFields(r *SendRule) {
	to := r.To()
	if !to.VariesByPayload() {
		return
	}
	const each = "one target would lose what it is to have to what comes for another"
	if r.OnDown == OnDownLatest {
		c.fault("on_down", "use spool or drop", "latest keeps the last message of each topic, and by the %s %s a topic has several targets: %s", to.kind, to, each)
	}
	if r.WhenOver == OverLatest {
		c.fault("when_over", "use wait or drop", "latest keeps the last message of each topic, and by the %s %s a topic has several targets: %s", to.kind, to, each)
	}
	if r.Refresh != 0 {
		c.fault("refresh", "leave it out; or take what varies from the topic, as in 239.1.2.{id}:5000",
			"it ends with an empty message of the topic, and of such a one the %s %s does not tell which target's", to.kind, to)
	}
}
