package mapping

// Split says what parts several messages in one datagram.
type Split uint8

const (
	SplitNone Split = iota // nothing: a datagram is one message
	SplitLine              // the end of a line: CR, LF or both
	SplitNUL               // a NUL byte
)

var splitNames = wordList{"none", "line", "nul"}

// ParseSplit reads none, line or nul.
func ParseSplit(s string) (Split, error) {
	i, err := parseName("split", s, splitNames)
	return Split(i), err
}

// String returns none, line or nul.
func (s Split) String() string { return splitNames.word(int(s), int(s), "Split") }

// MarshalText returns none, line or nul.
func (s Split) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSplit.
func (s *Split) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSplit(string(text))
	return err
}

// Next takes the first message off a datagram that is to be split, or what is left of one. What
// parts messages belongs to none, and several in a row part two: no message is empty. ok is
// false where none is left.
func (s Split) Next(payload []byte) (message, rest []byte, ok bool) {
	start := 0
	for start < len(payload) && s.parts(payload[start]) {
		start++
	}
	end := start
	for end < len(payload) && !s.parts(payload[end]) {
		end++
	}
	return payload[start:end:end], payload[end:], start < end
}

func (s Split) parts(c byte) bool {
	return s == SplitLine && (c == '\n' || c == '\r') || s == SplitNUL && c == 0
}
