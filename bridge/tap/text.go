package tap

import "net/netip"

// mentions reports whether a text is in what the event says, in words or as an address. It makes no
// garbage: it is asked on the way of a message.
func (e *Event) mentions(text string) bool {
	for _, in := range [...]string{e.Rule, e.Topic, e.AnswerTopic, e.Interface, e.Reason, e.Detail, string(e.Decision), string(e.Direction)} {
		if contains(in, text) {
			return true
		}
	}
	var room [64]byte
	for _, a := range [...]netip.AddrPort{e.To, e.Source} {
		if a.IsValid() && contains(a.AppendTo(room[:0]), text) {
			return true
		}
	}
	return false
}

// contains reports whether a text is in another, but for the case of ASCII.
func contains[T string | []byte](in T, text string) bool {
next:
	for i := 0; i+len(text) <= len(in); i++ {
		for j := range len(text) {
			if lower(in[i+j]) != lower(text[j]) {
				continue next
			}
		}
		return true
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
