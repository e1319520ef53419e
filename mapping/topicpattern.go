package mapping

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// uses reports whether the topic depends on this datum.
func (t Topic) uses(d datum) bool {
	for _, p := range t.parts {
		if p.kind == d || p.code.uses(d) {
			return true
		}
	}
	return false
}

// What stands in a filled template where only a datagram tells the text: no topic of a
// configuration holds a control character (checkText).
const (
	unknown        = "\x00" // any text
	unknownAddress = "\x01" // an address, or nothing for a request without a target
	unknownNumber  = "\x02" // a whole number
	unknowns       = unknown + unknownAddress + unknownNumber
)

// replaceUnknowns puts a text where only a datagram tells it.
func replaceUnknowns(filled, with string) string {
	return strings.NewReplacer(unknown, with, unknownAddress, with, unknownNumber, with).Replace(filled)
}

// mayBe reports whether a level of a pattern may be this one of a topic.
func mayBe(level, of string) bool {
	switch level {
	case unknownAddress:
		_, err := netip.ParseAddr(of)
		return err == nil || of == ""
	case unknownNumber:
		digits := strings.TrimPrefix(of, "-")
		return digits != "" && strings.Trim(digits, "0123456789") == ""
	}
	return level == "+" || level == of
}

// named returns the topic with the rule's name in place of {name}.
func (t Topic) named(name string) Topic {
	if !t.uses(datumName) {
		return t
	}
	parts := slices.Clone(t.parts)
	for i := range parts {
		if parts[i].kind == datumName {
			parts[i] = part{kind: datumText, text: name}
		}
	}
	return Topic{t.text, parts, t.fields}
}

// key returns a text that only topics have which are always equal.
func (t Topic) key() string {
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.text)
	}
	return b.String()
}

// fill returns the topic as far as it is known of the interface it arrives on,
// "" where that is not known either.
func (t Topic) fill(iface string) string {
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.kind == datumText:
			b.WriteString(p.text)
		case p.kind == datumInterface && iface != "":
			b.WriteString(iface)
		case p.kind == datumSource || p.kind == datumGroup || p.kind == datumDestination:
			b.WriteString(unknownAddress)
		case p.kind == datumPort || p.kind == datumSourcePort || p.kind == datumNumber:
			b.WriteString(unknownNumber)
		default:
			b.WriteString(unknown)
		}
	}
	return b.String()
}

// checkFilled tells why a filled template can be no topic, or returns nil.
func checkFilled(filled string) error {
	name := replaceUnknowns(filled, "0")
	if strings.ContainsAny(name, "+#") {
		return errors.New("a topic to publish on holds no wildcards + and # [MQTT-3.3.2-2]")
	}
	return checkText(name)
}

// pattern returns the filter that matches every topic that a filled template can
// give: each level with something unknown in it may be any, but for one that is an
// address or a number alone, which stays what it is (mayBe).
func pattern(filled string) string {
	if !strings.ContainsAny(filled, unknowns) {
		return filled
	}
	levels := strings.Split(filled, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, unknowns) && level != unknownAddress && level != unknownNumber {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// Matches reports whether a datagram may be published on this topic, whatever its
// addresses and the interface it arrives on.
func (t Topic) Matches(topic string) bool {
	return covers(pattern(t.fill("")), topic)
}
