package mapping

import "fmt"

// What a rule makes of a message's payload. A key that changes the bytes of datagrams is here, in
// Transforms, Datagram and DatagramKey, and nowhere else on their way.

// Transforms reports whether a datagram's payload is another than its message's.
func (r *SendRule) Transforms() bool {
	return !r.Payload.Raw() || r.Prefix.affix != nil || r.Suffix.affix != nil
}

// Datagram returns the payload of the datagram that a message becomes: the message itself, or what
// it has appended to scratch for it, and scratch with that. empty says that nothing of the message is left,
// or there was nothing.
// The error says why the message becomes none; scratch is then as it was.
func (r *SendRule) Datagram(scratch, message []byte) (datagram, grown []byte, empty bool, err error) {
	if datagram, empty = message, len(message) == 0; r.Transforms() {
		start := len(scratch)
		grown = append(scratch, r.Prefix.Bytes()...)
		from := len(grown)
		if grown, err = r.Payload.Decode(grown, message); err != nil {
			return nil, scratch, len(message) == 0, err
		}
		empty = len(grown) == from
		grown = append(grown, r.Suffix.Bytes()...)
		// Should append have moved to a larger array, earlier datagrams stay alive in the smaller one
		// for as long as they are pointed at.
		datagram = grown[start:len(grown):len(grown)]
	} else {
		grown = scratch
	}
	if err = r.CheckLength(datagram); err != nil {
		return nil, scratch, empty, err
	}
	return datagram, grown, empty, nil
}

// MakesPayloads reports whether Datagram returns anything else than the message itself.
func (r *SendRule) MakesPayloads() bool {
	return r.Transforms() || r.Counter.End() > 0 || r.Answer != nil
}

// CheckLength returns why a datagram is too short for what the rule puts into it, or reads from it.
func (r *SendRule) CheckLength(datagram []byte) error {
	if len(datagram) < r.Counter.End() {
		return fmt.Errorf("counter %s: the datagram has %d bytes", r.Counter, len(datagram))
	}
	if r.Answer != nil && r.Answer.Match.Lacks(datagram) {
		return fmt.Errorf("answer.match %s: the datagram has %d bytes", r.Answer.Match, len(datagram))
	}
	return nil
}

// DatagramKey is a text by which two rules differ if they make different datagrams of a message.
func (r *SendRule) DatagramKey() string {
	if r.Prefix.affix == nil && r.Suffix.affix == nil {
		return r.Payload.String()
	}
	return fmt.Sprintf("%q %s %q", r.Prefix.Bytes(), r.Payload, r.Suffix.Bytes())
}
