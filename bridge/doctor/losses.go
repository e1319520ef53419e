package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"topicast/bridge/account"
)

// What the bridge has lost within the last minutes, and whether that is a cause still.

// checkTopic looks at what the rule makes of the topic that is asked about.
func checkTopic(s *Subject, _ *Snapshot) (found []Finding, looked bool) {
	if s.TopicErr == nil {
		return nil, s.Topic != ""
	}
	return one(s.finding(Dropped, "topicast explain TOPIC shows what the template makes of it: another topic, or another template in the rule",
		"the rule makes no target of this topic, and drops its messages: "+s.TopicErr.Error())), true
}

// A loss is what was lost of a rule for one reason.
type loss struct {
	reason account.Reason
	count  uint64
	grew   uint64 // within the window
	first  string // the topic or datagram, and why
	last   time.Time
	over   bool // what it came of has ended
	other  bool // it was asked about a topic, and the first was of another one
}

// lostOf are the losses of a subject that are recent.
func (s *Subject) lostOf(h *Snapshot) (list []loss) {
	before, after, ok := h.traffic(s)
	if !ok || !h.lately(after.lastDrop) {
		return nil
	}
	for _, r := range account.Reasons() {
		n := after.lost[r.String()]
		if n == 0 || slices.Contains(elsewhere, r) {
			continue
		}
		l := loss{reason: r, count: n, grew: n - min(n, before.lost[r.String()]), first: after.first[r.String()], last: after.lastDrop}
		if rest, is := strings.CutPrefix(l.first, "topic "); is && s.Topic != "" {
			l.other = rest != s.Topic && !strings.HasPrefix(rest, s.Topic+": ")
		}
		l.over = l.grew == 0 && s.ended(h, l)
		list = append(list, l)
	}
	return list
}

// ofOne are the reasons that lie in one message or datagram: that others pass says nothing of them.
var ofOne = []account.Reason{account.ReasonBadGroup, account.ReasonBadHost, account.ReasonField, account.ReasonBadPayload,
	account.ReasonBadTopic, account.ReasonRefused, account.ReasonUnreachable}

// ended reports whether what a loss came of has ended, where nothing more was lost within the window.
func (s *Subject) ended(h *Snapshot, l loss) bool {
	switch r := l.reason; {
	case r == account.ReasonUnreachable && strings.Contains(l.first, silence):
		_, after := h.Daemon.sendStatus(s.Name)
		return after != nil && after.Down == 0
	case slices.Contains(ofOne, r):
		return false
	case r == account.ReasonFirewall:
		if h.Rules != nil && s.Err == nil && s.On.Index != 0 {
			if v, _, stopped := s.stopped(h); stopped && !v.Unknown {
				return false
			} else if !stopped { // of the groups of a template another one may be forbidden, unless one alone was
				_, named := sentAt(l.first)
				return s.Exact || l.count == 1 && named || s.passedSince(h)
			}
		}
		return s.Exact && s.passedSince(h)
	}
	return s.passedSince(h)
}

// passedSince reports whether something has passed since the last loss, and nothing waits.
func (s *Subject) passedSince(h *Snapshot) bool {
	if s.Send {
		_, after := h.Daemon.sendStatus(s.Name)
		return after != nil && !after.LastDrop.IsZero() && after.LastSent.After(after.LastDrop) && after.WaitingMemory+after.WaitingDisk == 0
	}
	before, after := h.Daemon.receiveStatus(s.Name)
	return before != nil && after != nil && after.Published > before.Published && after.WaitingMemory+after.WaitingDisk == 0
}

// String says how much was lost, and until when.
func (l loss) String() string {
	text := fmt.Sprintf("%d dropped (%s)", l.count, l.reason)
	if !l.last.IsZero() {
		text += ", the last at " + l.last.Format(time.TimeOnly)
	}
	return text
}

// lostBefore says what was lost and is no cause.
func (s *Subject) lostBefore(h *Snapshot) (texts []string) {
	for _, l := range s.lostOf(h) {
		switch {
		case l.over:
			texts = append(texts, fmt.Sprintf("%s lost messages until %s, and does not any more: %s: %s", s.Of, l.last.Format(time.TimeOnly), l, l.first))
		case l.other && l.ofRule():
			texts = append(texts, fmt.Sprintf("%s lost messages, the first of another topic: %s: %s; topicast tap --dropped shows whether of this one too", s.Of, l, l.first))
		}
	}
	return texts
}

// ofRule reports whether nothing but the topic says what it is a loss of.
func (l loss) ofRule() bool {
	_, special := losses[l.reason]
	return !special && l.grew == 0
}
