package mapping

import (
	"strings"
	"time"
)

// Keys that cannot do what they say, by the others beside them. Each is legal, and nothing would ever
// tell: the rule just does less than was meant.

// withoutEffect warns of them.
func (t *Table) withoutEffect() []Warning {
	found := limited{side: "send"}
	for i, r := range t.send {
		p := t.sendAt(i)
		switch {
		case r.When.Never():
			found.add(p.path("when"), "%s: no payload satisfies it, so the rule sends nothing", r.When)
		case r.When.Always():
			found.add(p.path("when"), "%s: every payload satisfies it", r.When)
		}
		if period := r.Rate.Period(); r.MaxAge > 0 && period > r.MaxAge && r.WhenOver != OverDrop {
			found.add(p.path("max_age"), "%v is shorter than the %v that a target gets one datagram in (rate: %s): what comes too soon after a datagram is dropped (expired) before its turn; with when_over: drop it is dropped at once",
				r.MaxAge, period, r.Rate)
		}
		if r.Refresh > 0 && r.AgeGiven && r.MaxAge > 0 && r.MaxAge < r.Refresh {
			found.add(p.path("refresh"), "%v is longer than max_age, %v, at which the refresh of a topic ends: nothing is sent again, or once", r.Refresh, r.MaxAge)
		}
		if period := r.Rate.Period(); r.Refresh > 0 && period > r.Refresh {
			found.add(p.path("refresh"), "%v is shorter than the %v that a target gets one datagram in (rate: %s): it is refreshed no more often than that", r.Refresh, period, r.Rate)
		}
	}
	for i, r := range t.send {
		p := t.sendAt(i)
		if a := r.Answer; a != nil && r.MaxAge > 0 && time.Duration(a.Tries)*a.Within > r.MaxAge {
			found.add(p.path("max_age"), "%v is shorter than the %v that a request may have no answer for (answer: within %v, tries %d): what waits behind it for the same host is dropped (expired) before its turn",
				r.MaxAge, time.Duration(a.Tries)*a.Within, a.Within, a.Tries)
		}
		for _, at := range []struct {
			key string
			Affix
		}{{"prefix", r.Prefix}, {"suffix", r.Suffix}} {
			if b := at.Bytes(); strings.Contains(b, `\`) && strings.ContainsAny(b[strings.Index(b, `\`)+1:], "rnt0x") {
				found.add(p.path(at.key), "%s: each datagram has the backslash as it stands there; in YAML \\r\\n is a line's end between double quotes only, and hex:0d0a always is", quote(b))
			}
		}
	}
	all := found.warnings("keys that have no effect")
	found = limited{}
	for i, r := range t.receive {
		switch p := t.receiveAt(i); {
		case r.When.Never():
			found.add(p.path("when"), "%s: no datagram satisfies it, so the rule publishes nothing", r.When)
		case r.When.Always():
			found.add(p.path("when"), "%s: every datagram satisfies it", r.When)
		}
	}
	return append(all, found.warnings("keys that have no effect")...)
}
