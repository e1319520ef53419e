package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxTopic is the longest topic name or filter in bytes, since both travel
// behind a 16-bit length [MQTT-4.7.3-3].
const maxTopic = 65535

// A Filter is an MQTT topic filter in which a wildcard may have a name: {name}
// is a + and {name#} is a # whose part of the topic the group may use.
// The zero Filter matches nothing. Filters compare with ==, as written.
type Filter struct {
	text string // as written
	mqtt string // the same with + and # for the named wildcards
}

// ParseFilter reads a filter. It refuses what a broker may refuse, because a
// broker answers one bad filter by closing the connection, at every reconnect.
func ParseFilter(s string) (Filter, error) {
	mqtt, err := plainFilter(s)
	if err != nil {
		return Filter{}, fmt.Errorf("filter %s: %w", quote(s), err)
	}
	return Filter{s, mqtt}, nil
}

// String returns the filter as written, captures and all.
func (f Filter) String() string { return f.text }

// MQTT returns the filter as a broker knows it: + for {name}, # for {name#}.
func (f Filter) MQTT() string { return f.mqtt }

// IsZero reports whether f is the zero Filter.
func (f Filter) IsZero() bool { return f == Filter{} }

// Equal reports whether two filters are written alike.
func (f Filter) Equal(other Filter) bool { return f == other }

// Captures returns the names of the captures in their order.
func (f Filter) Captures() []string {
	var names []string
	for _, c := range f.captures() {
		names = append(names, c.name)
	}
	return names
}

// Capture returns what a capture took of a topic that the filter matches; "" if there is none of
// that name.
func (f Filter) Capture(name, topic string) string {
	for _, c := range f.captures() {
		if c.name == name {
			return c.value(topic)
		}
	}
	return ""
}

// Match reports whether the filter matches a topic.
func (f Filter) Match(topic string) bool { return covers(f.mqtt, topic) }

// Covers reports whether f matches every topic that g matches.
func (f Filter) Covers(g Filter) bool { return covers(f.mqtt, g.mqtt) }

// Overlaps reports whether some topic is matched by both f and g.
func (f Filter) Overlaps(g Filter) bool { return overlap(f.mqtt, g.mqtt) }

// MarshalText returns the filter as written.
func (f Filter) MarshalText() ([]byte, error) { return []byte(f.text), nil }

// UnmarshalText is ParseFilter.
func (f *Filter) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFilter(string(text))
	return err
}

// CheckTopic tells why a text is no topic name, or returns nil.
func CheckTopic(topic string) error {
	err := checkText(topic)
	if err == nil && strings.ContainsAny(topic, "+#") {
		err = errors.New("a topic holds no wildcards + and # [MQTT-3.3.2-2]") // a filter does
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", quote(topic), err)
	}
	return nil
}

// covers reports whether filter matches every topic that other matches, where
// other is a filter or a topic: a topic is a filter that matches only itself. filter
// may be a pattern too.
func covers(filter, other string) bool {
	if filter == "" || other == "" || leadingWildcard(filter) && other[0] == '$' {
		return false // [MQTT-4.7.3-1], [MQTT-4.7.2-1]
	}
	if filter == "+/#" {
		filter = "#" // the same, as every topic has a first level
	}
	var level, level2 string
	more, more2 := true, true
	for more && more2 {
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		level2, other, more2 = strings.Cut(other, "/")
		if level2 == "#" || !mayBe(level, level2) {
			return false
		}
	}
	// [MQTT-4.7.1-2]: "sport/#" matches "sport" too.
	return !more2 && (!more || filter == "#")
}

// overlap reports whether some topic is matched by both: a filter or pattern, and a filter.
func overlap(f, g string) bool {
	if f == "" || g == "" || leadingWildcard(f) && g[0] == '$' || leadingWildcard(g) && f[0] == '$' {
		return false // [MQTT-4.7.3-1], [MQTT-4.7.2-1]
	}
	var level, level2 string
	more, more2 := true, true
	for more && more2 {
		level, f, more = strings.Cut(f, "/")
		level2, g, more2 = strings.Cut(g, "/")
		if level == "#" || level2 == "#" {
			return true
		}
		if level2 != "+" && !mayBe(level, level2) {
			return false
		}
	}
	return (!more || f == "#") && (!more2 || g == "#") // [MQTT-4.7.1-2]
}

func leadingWildcard(filter string) bool { return filter[0] == '+' || filter[0] == '#' }

// plainFilter checks a filter and returns it without the names of its captures.
func plainFilter(s string) (string, error) {
	if s == "" {
		return "", errors.New("a filter has at least one character [MQTT-4.7.3-1]; # takes every topic")
	}
	levels, names := make([]string, 0, 16), make([]string, 0, 4) // of that size they are on the stack
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		name, wildcard, err := parseLevel(level)
		if err != nil {
			return "", err
		}
		if wildcard == "#" && more {
			return "", fmt.Errorf("%s takes all that follows, so it must be the last level [MQTT-4.7.1-2]; write + or {name} for one level", level)
		}
		if name != "" {
			if slices.Contains(names, name) {
				return "", fmt.Errorf("two captures are named {%s}; give one another name", name)
			}
			names = append(names, name)
		}
		if wildcard != "" {
			level = wildcard
		}
		levels = append(levels, level)
	}
	if levels[0] == "$share" || levels[0] == "$queue" {
		return "", fmt.Errorf("%s is a shared subscription, whose topics arrive without that prefix; write the filter after it alone, and the name before that as the key share", levels[0])
	}
	mqtt := s
	if len(names) > 0 {
		mqtt = strings.Join(levels, "/")
	}
	return mqtt, checkText(mqtt)
}

// parseLevel reads one level of a filter: wildcard is "+", "#" or "" for a
// literal, name that of the capture or "".
func parseLevel(level string) (name, wildcard string, err error) {
	switch {
	case level == "+" || level == "#":
		return "", level, nil
	case strings.ContainsAny(level, "{}"):
		return parseCapture(level)
	case strings.Contains(level, "#"):
		err = fmt.Errorf("# in %q does not fill its level [MQTT-4.7.1-2]; write /# after the level, or + in its place", level)
	case strings.Contains(level, "+"):
		err = fmt.Errorf("+ in %q does not fill its level [MQTT-4.7.1-3]; write + for the whole level", level)
	}
	return "", "", err
}

func parseCapture(level string) (name, wildcard string, err error) {
	inner, opened := strings.CutPrefix(level, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	name, multi := strings.CutSuffix(inner, "#")
	if !opened || !closed || !isName(name) {
		return "", "", fmt.Errorf("%q is no capture; a whole level {name} takes one level, {name#} all that follow; a name is letters, digits and _", level)
	}
	if multi {
		return name, "#", nil
	}
	return name, "+", nil
}

// isName reports whether s is [A-Za-z_][A-Za-z0-9_]*.
func isName(s string) bool {
	return s != "" && nameLength(s) == len(s)
}

// nameLength returns how many bytes of a name s begins with.
func nameLength(s string) int {
	n := 0
	for n < len(s) && (isLetter(s[n]) || n > 0 && isDigit(s[n])) {
		n++
	}
	return n
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// checkText holds what is true of a topic name and a filter alike: MQTT 3.1.1
// sections 1.5.3 and 4.7.3.
func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("a topic has at least one character [MQTT-4.7.3-1]")
	case len(s) > maxTopic:
		return fmt.Errorf("%d bytes are more than a topic may have, %d [MQTT-4.7.3-3]", len(s), maxTopic)
	case !utf8.ValidString(s):
		return errors.New("not valid UTF-8 [MQTT-1.5.3-1]; save the text as UTF-8")
	}
	for i, r := range s {
		// A NUL is forbidden [MQTT-4.7.3-2]. The others "should not" be there
		// (1.5.3), and a broker may close the connection over them.
		if awkward(r) {
			return fmt.Errorf("character %U at byte %d may make a broker close the connection (MQTT 3.1.1, 1.5.3); take it out, or write + for its level", r, i)
		}
	}
	return nil
}

func awkward(r rune) bool {
	return r < 0x20 || 0x7f <= r && r <= 0x9f || 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe
}

// A capture is a named wildcard and its place in the filter.
type capture struct {
	name  string
	level int  // 0 is the first
	multi bool // {name#}
}

func (f Filter) captures() []capture {
	var found []capture
	if !strings.Contains(f.text, "{") {
		return nil
	}
	rest, more := f.text, true
	for i := 0; more; i++ {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if name, wildcard, _ := parseLevel(level); name != "" {
			found = append(found, capture{name, i, wildcard == "#"})
		}
	}
	return found
}

// value returns what the capture took of a topic that its filter matches; ""
// where a # took no level at all.
func (c capture) value(topic string) string {
	for range c.level {
		_, topic, _ = strings.Cut(topic, "/")
	}
	if c.multi {
		return topic
	}
	level, _, _ := strings.Cut(topic, "/")
	return level
}
