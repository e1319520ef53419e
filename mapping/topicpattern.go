package mapping

import (
	"errors"
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

// unknown stands in a filled template where only a datagram tells the text. No
// topic holds a NUL [MQTT-4.7.3-2].
const unknown = "\x00"

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
		default:
			b.WriteString(unknown)
		}
	}
	return b.String()
}

// checkFilled tells why a filled template can be no topic, or returns nil.
func checkFilled(filled string) error {
	name := strings.ReplaceAll(filled, unknown, "0")
	if strings.ContainsAny(name, "+#") {
		return errors.New("a topic to publish on holds no wildcards + and # [MQTT-3.3.2-2]")
	}
	return checkText(name)
}

// pattern returns the filter that matches every topic that a filled template can
// give: each level with something unknown in it may be any.
func pattern(filled string) string {
	if !strings.Contains(filled, unknown) {
		return filled
	}
	levels := strings.Split(filled, "/")
	for i, level := range levels {
		if strings.Contains(level, unknown) {
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
