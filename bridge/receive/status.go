package receive

import (
	"fmt"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/mapping"
)

// Status is one receive rule: what it says, what it does now, and what has
// become of its datagrams since the start.
type Status struct {
	Name        string            `json:"name"`
	Rule        string            `json:"rule,omitempty"` // what the configuration calls it, of a rule with several interfaces: this is it by one of them
	Groups      []string          `json:"groups"`
	Port        uint16            `json:"port,omitempty"`    // in place of groups: what comes to this host itself at that port
	Interface   string            `json:"interface"`         // its name, once it is known
	Sources     []string          `json:"sources,omitempty"` // none: anybody
	Topic       string            `json:"topic"`
	State       account.State     `json:"state"`
	Reason      string            `json:"reason,omitempty"`
	Since       time.Time         `json:"since"`
	SilentSince time.Time         `json:"silent_since,omitzero"`      // longer than the rule expects
	Sockets     int               `json:"sockets"`                    // one a group; of a port, one for each address family
	Joined      int               `json:"joined"`                     // how many of them listen
	Sharers     []string          `json:"port_shared_with,omitempty"` // of a port: other programs that have it too, as far as Linux tells
	Buffer      int               `json:"buffer,omitempty"`           // bytes of receive buffer that each was granted
	Received    uint64            `json:"datagrams_received"`
	Published   uint64            `json:"messages_published"`
	Drops       map[string]uint64 `json:"drops,omitempty"`       // what was lost, by reason
	FirstDrops  map[string]string `json:"first_drops,omitempty"` // datagram and cause of the first of each reason
	Filtered    map[string]uint64 `json:"filtered,omitempty"`    // what the configuration asks not to carry, by reason
	// What the rule uses of what all share.
	Remembered Remembered `json:"remembered"`
	Legs       []Leg      `json:"legs,omitempty"` // of a rule with merge: the ways by which it hears the same
	account.Lately
}

// Status is the rule as it is now; place is its place in the list.
func (r *Rule) Status(now time.Time, place int) Status {
	s := Status{
		Name: r.Name, Groups: []string{}, Port: r.Port, Topic: r.Topic.String(),
		Received: r.received.Load(), Published: r.published.Load(), Remembered: r.remembered(),
	}
	if r.Instance() != "" {
		s.Rule = r.Common
	}
	for _, g := range r.Groups {
		s.Groups = append(s.Groups, g.String())
	}
	s.Sharers = r.sharers()
	for _, p := range r.Sources {
		s.Sources = append(s.Sources, mapping.PrefixText(p))
	}
	s.Drops, s.FirstDrops, s.Filtered = r.Counters.Describe()
	s.Legs, s.Remembered.Unmerged, _ = r.Legs(now)
	r.describe(&s, now)
	s.Lately = account.Lately{WaitingMemory: r.InMemory(), WaitingDisk: r.InSpool(), Place: place}
	s.WaitingBytes, s.DiskBytes = r.Waits()
	s.Lately.Mark(&r.Counters, &r.LastReceived, now)
	return s
}

// sharers are the other programs that have the port of the rule too.
func (r *Rule) sharers() (all []string) {
	if r.Port == 0 {
		return nil
	}
	for _, m := range r.memberships {
		m.mu.Lock()
		for _, text := range m.sharers {
			if !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
		m.mu.Unlock()
	}
	return all
}

// askReaders fills in what the memberships say: one that is in trouble speaks for the
// rule, which is up if none is and pending if all are. It returns how many are.
func (r *Rule) askReaders(s *Status) (pending int) {
	if r.disabled != nil {
		s.State, s.Reason, s.Since, s.Interface = account.StateDisabled, r.disabled.Reason(), r.disabled.Since, r.Interface
		return 0
	}
	s.State, s.Interface = account.StateUp, r.Interface
	absent, why := 0, "" // of families that the host does not have
	for _, m := range r.memberships {
		m.mu.Lock()
		if m.reader == nil && m.state == account.StateUp {
			absent, why = absent+1, m.reason
		} else {
			s.Sockets++
		}
		if len(m.takers) > 0 && s.State == account.StateUp {
			s.State, s.Reason = account.StateDegraded, m.takers[0]
		}
		if m.reader != nil {
			s.Joined++
			s.Buffer, s.Interface = m.reader.socket.Buffer(), m.reader.at.Name
		}
		if m.since.After(s.Since) {
			s.Since = m.since
		}
		if m.state == account.StatePending {
			if pending++; pending == 1 {
				s.State, s.Reason = account.StateDegraded, m.reason
			}
		}
		m.mu.Unlock()
	}
	switch {
	case absent == len(r.memberships):
		s.State, s.Reason, pending = account.StatePending, why, absent
	case pending == len(r.memberships)-absent:
		s.State = account.StatePending
	}
	return pending
}

// Judge says which state the rule is in, and why: of describe, what many rules are
// asked for often, in words that need not be put together.
func (r *Rule) Judge(now time.Time) (account.State, string) {
	var s Status
	r.askReaders(&s)
	if s.State == account.StateUp && !r.breaker.DropsUntil(now).IsZero() {
		s.State, s.Reason = account.StateDegraded, "what the rule publishes comes back through other programs"
	}
	if s.State == account.StateUp && r.watched != nil {
		if text := r.silenceText(now); text != "" {
			s.State, s.Reason = account.StateDegraded, text
		}
	}
	if s.State == account.StateUp {
		r.describeLegs(&s)
	}
	if why := r.propertiesLost(); s.State == account.StateUp && why != "" {
		s.State, s.Reason = account.StateDegraded, why
	}
	return s.State, s.Reason
}

// describeReaders fills in what the memberships say, in words.
func (r *Rule) describeReaders(s *Status) {
	switch pending := r.askReaders(s); {
	case pending == 0 || s.State != account.StateDegraded:
	case r.Port != 0:
		s.Reason = fmt.Sprintf("%d of %d sockets of the port are not open: %s", pending, s.Sockets, s.Reason)
	default:
		s.Reason = fmt.Sprintf("%d of %d groups are not joined: %s", pending, s.Sockets, s.Reason)
	}
}

// describe adds what the breaker says, of what nothing is heard, and which legs fail.
func (r *Rule) describe(s *Status, now time.Time) {
	r.describeReaders(s)
	if until := r.breaker.DropsUntil(time.Now()); !until.IsZero() && s.State != account.StatePending {
		s.State = account.StateDegraded
		s.Reason = fmt.Sprintf("what the rule publishes comes back through other programs; that is dropped until %s (loops.breaker)",
			until.Format(time.TimeOnly))
	}
	if r.watched != nil {
		if is := r.watched.silence.Load(); is != nil {
			s.SilentSince = account.MomentTime(is.since, now)
			if s.State == account.StateUp {
				s.State, s.Reason, s.Since = account.StateDegraded, r.silenceText(now), account.MomentTime(is.noticed, now)
			}
		} else if again := r.watched.again.Time(now); s.State == account.StateUp && again.After(s.Since) {
			s.Since = again
		}
	}
	if s.State == account.StateUp {
		r.describeLegs(s)
	}
	if why := r.propertiesLost(); s.State == account.StateUp && why != "" {
		s.State, s.Reason = account.StateDegraded, why
	}
}
