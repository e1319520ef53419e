package netlab

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A Tally counts what became of streams of numbered payloads. The payloads of a
// stream are [Numbered] 0, 1, 2 and so on; the zero Tally has seen none.
type Tally struct {
	Received   int // payloads noted, duplicates among them
	Duplicates int // numbers that had come before
	Disorders  int // numbers that came for the first time after a higher one
	Strange    int // payloads that are not numbered ones
	streams    map[string]*stream
}

type stream struct {
	seen []bool // by number
	high int    // the number after the highest seen
}

// Numbered returns the payload with number n of a stream. The name is to have
// no blank in it.
func Numbered(stream string, n int) []byte {
	return fmt.Appendf(nil, "%s %d", stream, n)
}

// Note takes the next payload that arrived.
func (t *Tally) Note(payload []byte) {
	name, n, ok := numbered(payload)
	if !ok {
		t.Strange++
		return
	}
	t.Received++
	s := t.stream(name)
	for len(s.seen) <= n {
		s.seen = append(s.seen, false)
	}
	switch {
	case s.seen[n]:
		t.Duplicates++
	case n < s.high:
		t.Disorders++
	}
	s.seen[n] = true
	s.high = max(s.high, n+1)
}

// Missing lists what has not come of the numbers 0 to count-1 of a stream, by
// stream and number; nothing missing is nil.
func (t *Tally) Missing(stream string, count int) []string {
	var missing []string
	s := t.stream(stream)
	for n := range count {
		if n >= len(s.seen) || !s.seen[n] {
			missing = append(missing, string(Numbered(stream, n)))
		}
	}
	return missing
}

func (t *Tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d received in %d streams, %d duplicates, %d out of order", t.Received, len(t.streams), t.Duplicates, t.Disorders)
	if t.Strange > 0 {
		fmt.Fprintf(&b, ", %d strange payloads", t.Strange)
	}
	return b.String()
}

func (t *Tally) stream(name string) *stream {
	s := t.streams[name]
	if s == nil {
		s = &stream{}
		if t.streams == nil {
			t.streams = map[string]*stream{}
		}
		t.streams[name] = s
	}
	return s
}

func numbered(payload []byte) (stream string, n int, ok bool) {
	name, number, ok := bytes.Cut(payload, []byte(" "))
	if !ok {
		return "", 0, false
	}
	n, err := strconv.Atoi(string(number))
	return string(name), n, err == nil && n >= 0 && n < 1<<24
}
