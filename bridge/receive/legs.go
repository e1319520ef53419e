package receive

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"topicast/bridge/account"
)

// leg is one way by which a rule with merge hears the same: an interface and a sender. The
// merge's mu guards it.
type leg struct {
	on     string
	source netip.Addr

	received, duplicates, missing uint64
	lagCount                      uint64
	lagSum, lagLast, lagMost      time.Duration

	heard      int64 // moment
	evidence   int   // datagrams that another leg brought too, as far as they count
	knownSince int64 // moment; 0: it may be somebody else
	missed     int   // since it was heard
	expected   int   // since it was judged: datagrams
	lacked     int   // and of these, how many it was missing
	judged     int64 // moment
	state      LegState
}

// LegState is what a leg does.
type LegState string

// The states of a leg.
const (
	LegNew     LegState = "new"     // it has had too little in common with others
	LegCarries LegState = "carries" // it brings what others bring
	LegLoses   LegState = "loses"   // a tenth of it and more is missing
	LegSilent  LegState = "silent"  // it brings nothing, while others do
)

const (
	// legEvidence is how many datagrams another leg has to bring too before one is known.
	legEvidence = 8
	// legIdle is how long a known leg is silent before another one may have its place.
	legIdle = time.Hour
	// A leg is silent after so long, if it is missing so many.
	legPatience = 5 * time.Second
	legMissed   = 3
	// It is judged so often by how many it is missing, if there were enough: it loses from a
	// tenth on, and carries again with a twentieth.
	legPeriod  = 10 * time.Second
	legEnough  = 20
	losesFrom  = 10
	carriesTo  = 20
	legsInText = 3
)

func (l *leg) known() bool { return l.knownSince != 0 }

func (l *leg) hear(at int64) {
	l.received++
	l.heard, l.missed = at, 0
}

func (l *leg) lags(by time.Duration) {
	l.lagCount++
	l.lagSum += by
	l.lagLast, l.lagMost = by, max(l.lagMost, by)
}

// learn takes note of a datagram that another leg brought too.
func (l *leg) learn(at int64) {
	if l.known() {
		return
	}
	if l.evidence++; l.evidence >= legEvidence {
		l.knownSince, l.judged, l.state = at, at, LegCarries
		l.missed, l.expected, l.lacked = 0, 0, 0
	}
}

// expect takes note of a datagram that came at a moment, and is over.
func (l *leg) expect(at int64, brought bool) {
	if !l.known() || at < l.knownSince {
		return
	}
	l.expected++
	if !brought {
		l.missing++
		l.missed++
		l.lacked++
	}
}

// judge finds out what the leg does, and reports whether that has changed.
func (l *leg) judge(now int64) (changed bool) {
	if !l.known() {
		return false
	}
	was := l.state
	if time.Duration(now-l.judged) >= legPeriod && l.expected >= legEnough {
		switch {
		case l.lacked*losesFrom >= l.expected:
			l.state = LegLoses
		case l.lacked*carriesTo <= l.expected:
			l.state = LegCarries
		}
		l.expected, l.lacked, l.judged = 0, 0, now
	}
	switch {
	case l.missed >= legMissed && time.Duration(now-l.heard) >= legPatience:
		l.state = LegSilent
	case was == LegSilent && l.state == LegSilent && l.missed == 0:
		l.state = LegCarries
	}
	return l.state != was
}

// legOf finds the leg of an interface and a sender, or gives it a place; -1: there is none.
func (m *merge) legOf(key uint64, on string, source netip.Addr) int {
	for i, k := range m.keys[:m.inUse] {
		if k == key {
			return i
		}
	}
	i := m.inUse
	if i < maxLegs {
		m.inUse++
	} else if i = m.idleLeg(); i < 0 {
		return -1
	} else {
		m.replaced = true
	}
	m.keys[i] = key
	m.legs[i] = leg{on: on, source: source, state: LegNew}
	return i
}

// idleLeg is the leg that was heard the longest ago of those that may give up their places: a
// new one when all that it has brought is over, so that nothing remembered is of it, and one
// that is known after much longer; -1: there is none.
func (m *merge) idleLeg() int {
	found := -1
	for i := range m.legs {
		l := &m.legs[i]
		after := time.Duration(m.within.Load())
		if l.known() {
			after = max(after, legIdle)
		}
		if time.Duration(m.now-l.heard) > after && (found < 0 || l.heard < m.legs[found].heard) {
			found = i
		}
	}
	return found
}

// dismiss has legs count as none any more whose senders the rule does not take: nobody waits for
// them to come back.
func (m *merge) dismiss(gone func(source netip.Addr) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.legs[:m.inUse] {
		if l := &m.legs[i]; gone(l.source) {
			l.state, l.knownSince, l.evidence = LegNew, 0, 0
			m.replaced = true
		}
	}
}

// Leg is one of a rule with merge, and what has become of its datagrams.
type Leg struct {
	Interface    string    `json:"interface"`
	Source       string    `json:"source"`
	State        LegState  `json:"state"`
	Received     uint64    `json:"datagrams_received"`
	Duplicates   uint64    `json:"duplicates,omitempty"`      // of these, what another leg had brought before
	Missing      uint64    `json:"missing,omitempty"`         // what other legs brought, and this one did not in time
	Lag          float64   `json:"lag_seconds,omitempty"`     // how much later than the first the last duplicate came
	MaxLag       float64   `json:"lag_seconds_max,omitempty"` // the most so far
	LastReceived time.Time `json:"last_received,omitzero"`

	LagCount uint64        `json:"-"` // duplicates of which the lag is known
	LagSum   time.Duration `json:"-"`
}

// Known reports whether the leg has had enough in common with others.
func (l *Leg) Known() bool { return l.State != LegNew }

// Legs are those of a rule with merge, in the order in which they were found; unmerged is how
// many datagrams may have been published twice. ok: the rule has merge.
func (r *Rule) Legs(now time.Time) (legs []Leg, unmerged uint64, ok bool) {
	m := r.merge
	if m == nil {
		return nil, 0, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.legs[:m.inUse] {
		l := &m.legs[i]
		legs = append(legs, Leg{
			Interface: l.on, Source: l.source.String(), State: l.state,
			Received: l.received, Duplicates: l.duplicates, Missing: l.missing,
			Lag: l.lagLast.Seconds(), MaxLag: l.lagMost.Seconds(), LastReceived: account.MomentTime(l.heard, now),
			LagCount: l.lagCount, LagSum: l.lagSum,
		})
	}
	return legs, m.unmerged, true
}

// describeLegs says what is wrong with legs.
func (r *Rule) describeLegs(s *Status) {
	if r.merge == nil {
		return
	}
	if text := r.merge.reason.Load(); text != nil {
		s.State, s.Reason = account.StateDegraded, *text
	}
}

// WatchLegs looks which legs have stopped to bring what others do, and tells of it.
func (p *Path) WatchLegs(now time.Time) {
	for name, m := range p.working.Load().merges {
		changed, crowded := m.look(now)
		for _, l := range changed {
			l.log(p, name, now)
		}
		if crowded {
			p.log.Warn("there is no room to remember all that comes within the time of merge, or there are more legs than places; what is not remembered is published each time it comes", "rule", name, "bytes", m.room.Used(), "legs", maxLegs)
		}
	}
}

// look judges the legs, and returns those that have changed; crowded: for the first time
// something was not remembered.
func (m *merge) look(now time.Time) (changed []leg, crowded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tidy(m.advance(account.MomentOf(now)))
	for i := range m.legs[:m.inUse] {
		if l := &m.legs[i]; l.judge(m.now) {
			changed = append(changed, *l)
		}
	}
	if len(changed) > 0 || m.replaced {
		m.replaced = false
		m.explain(now)
	}
	crowded = m.unmerged > 0 && !m.told
	m.told = m.told || crowded
	return changed, crowded
}

// explain puts into words which legs fail.
func (m *merge) explain(now time.Time) {
	var failing []string
	for i := range m.legs[:m.inUse] {
		switch l := &m.legs[i]; l.state {
		case LegSilent:
			failing = append(failing, fmt.Sprintf("nothing comes by the leg of %s on %s since %s, and others carry on", l.source, l.on, account.MomentTime(l.heard, now).Format(time.TimeOnly)))
		case LegLoses:
			failing = append(failing, fmt.Sprintf("the leg of %s on %s loses datagrams that others bring", l.source, l.on))
		}
	}
	m.reason.Store(nil)
	if len(failing) > 0 {
		text := strings.Join(failing[:min(len(failing), legsInText)], "; ")
		if more := len(failing) - legsInText; more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
		m.reason.Store(&text)
	}
}

func (l *leg) log(p *Path, rule string, now time.Time) {
	attrs := []any{"rule", rule, "interface", l.on, "source", l.source, "missing", l.missing}
	switch l.state {
	case LegSilent:
		p.log.Warn("a leg is silent, and others carry on", append(attrs, "since", account.MomentTime(l.heard, now).Format(time.TimeOnly))...)
	case LegLoses:
		p.log.Warn("a leg loses datagrams that others bring", attrs...)
	case LegCarries:
		p.log.Info("a leg carries again", attrs...)
	}
}
