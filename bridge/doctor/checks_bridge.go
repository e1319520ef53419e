package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/mapping"
)

// The checks of what the running bridge says of itself.

// recent is how old a loss may be to be told: what is older is another trouble.
const recent = 10 * time.Minute

// lately reports whether the last loss is recent. The bridge notes when it was once a second, so the first has
// no time at first.
func (h *Snapshot) lately(drop time.Time) bool { return drop.IsZero() || h.Now.Sub(drop) < recent }

func checkRunning(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	d := &h.Daemon
	if !d.Asked || d.Off || s.Name == "" {
		return nil, false
	}
	if d.Err != nil || d.After == nil {
		return one(s.finding(NotRunning, "systemctl status topicast, or topicast run --config FILE; where it runs in a container, run this inside: docker exec NAME topicast doctor",
			"no topicast answers with the configuration: it does not run, or not in this network namespace, or control.listen and web.listen are others", fmt.Sprint(d.Err))), true
	}
	_, sends := d.sendStatus(s.Name)
	_, receives := d.receiveStatus(s.Name)
	if s.Send && sends == nil || !s.Send && receives == nil {
		return one(s.finding(NotRunning, "systemctl reload topicast, or kill -HUP its process", "the topicast that runs does not have this rule: its configuration is another, or older",
			"/status at "+d.At+" does not name it")), true
	}
	return s.ofWhole(h), true
}

// ofWhole is what the bridge says of itself, beside what it says of its rules, as far as it concerns the subject
// and no other check speaks of it.
func (s *Subject) ofWhole(h *Snapshot) (found []Finding) {
	d := &h.Daemon
	common, publishes := s.Name, !s.Send || s.Asks
	if _, a := d.sendStatus(s.Name); s.Send && a != nil {
		common = cmp.Or(a.Rule, common)
	} else if _, a := d.receiveStatus(s.Name); !s.Send && a != nil {
		common = cmp.Or(a.Rule, common)
	}
	for _, c := range d.After.Conditions {
		fix := "what it says; the log of topicast tells more: journalctl -u topicast"
		concerns := false
		switch c.Name {
		case "acknowledgements", "queue":
			concerns = s.Send
			if c.Name == "acknowledgements" && c.Rule != s.Name {
				fix = "mend what rule " + mapping.ShellWord(c.Rule) + " waits for: topicast doctor --rule " + mapping.ShellWord(c.Rule)
			}
		case "descriptors":
			concerns = true
		case "broker": // of those with a time it is what is published; checkBroker and checkMaxRate have others
			concerns = c.State == account.StateDegraded && (c.Since.IsZero() || publishes && !c.Since.Equal(d.After.Broker.PacedSince))
		case "interfaces":
			concerns = strings.Contains(c.Reason, " rule "+common+" works by ")
		case "subscriptions": // of those that the broker does not take, the state of the rule tells
			concerns = s.Send && d.After.Broker.Unanswered > 0 && d.Before != nil && d.Before.Broker.Unanswered > 0
		}
		if !concerns {
			continue
		}
		f := s.finding(Degraded, fix, c.Reason, fmt.Sprintf("the running topicast is %s: %s", c.State, c.Name))
		if c.State == account.StatePending {
			f.Cause = Pending
		}
		f.whole, f.by = true, c.Rule == s.Name
		found = append(found, f)
	}
	return found
}

func checkBroker(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if h.Daemon.After == nil || s.Name == "" {
		return nil, false
	}
	b := &h.Daemon.After.Broker
	if !b.Connected {
		if clockTrouble(b.Error) {
			return nil, false // checkClock says so
		}
		return one(s.finding(BrokerAway, "mend what it says; topicast keeps trying", "there is no connection to the broker: "+cmp.Or(b.Error, "not yet"),
			fmt.Sprintf("%d connects failed since %s", b.Attempts, b.Since.Format(time.TimeOnly)))), true
	}
	const allow = "allow it in the broker's access control: "
	if s.Send {
		_, after := h.Daemon.sendStatus(s.Name)
		if after != nil && after.State != account.StateUp && strings.HasPrefix(after.Reason, "no subscription to ") {
			return one(s.finding(BrokerACL, allow+"topic read "+onWire(after.Filter), after.Reason, fmt.Sprintf("%d filters are refused", len(b.Refused)+b.MoreRefused))), true
		}
		return nil, true
	}
	_, after := h.Daemon.receiveStatus(s.Name)
	if after != nil && h.lately(after.LastDrop) && after.Drops["broker_refused"] > 0 {
		return one(s.finding(BrokerACL, allow+"topic write "+published(after.Topic), "the broker refuses what is published: "+after.FirstDrops["broker_refused"],
			fmt.Sprintf("%d refused (broker_refused)", after.Drops["broker_refused"]))), true
	}
	return nil, true
}

// filters say which cause a reason for filtering, or for a loss that no key asks for, is.
var filters = map[account.Reason]struct {
	cause     Cause
	text, fix string
}{
	account.ReasonRetained:   {RetainedPolicy, "retained messages are not sent: the rule's retained policy holds them back", "retained: once, or always, in the rule; or publish without the RETAIN flag"},
	account.ReasonWhen:       {Condition, "nothing satisfies the rule's when", "topicast explain TOPIC|GROUP:PORT --payload DATA shows what it makes of one; change when"},
	account.ReasonEmpty:      {Filtered, "what comes is empty, and the rule leaves such out", "empty: send, or publish, in the rule"},
	account.ReasonOwn:        {LoopGuard, "what comes was sent by this topicast itself", "loops: in the configuration says how it is told; another sender is heard"},
	account.ReasonLoop:       {LoopGuard, "what comes came back: the loop guard knows it", "have the two rules use topics, or groups, that do not lead into each other: topicast check tells which do"},
	account.ReasonSource:     {SourceFiltered, "what comes is of senders that the rule does not take", "add them to source of the rule, or leave source out"},
	account.ReasonDuplicate:  {Filtered, "what comes is taken for what another leg has brought (merge)", "merge: 0s in the rule, or a shorter time"},
	account.ReasonUnchanged:  {Filtered, "what comes is what came before (on_change)", "on_change: false in the rule"},
	account.ReasonSuperseded: {Filtered, "a later one takes the place of each (every, latest)", "a shorter every in the rule"},
}

// traffic is what the bridge counts of a rule, of either direction.
type traffic struct {
	passed, filtered, lost map[string]uint64
	first                  map[string]string
	lastDrop               time.Time
}

const all = "all" // of what passed

func (h *Snapshot) traffic(s *Subject) (before, after traffic, ok bool) {
	if s.Send {
		b, a := h.Daemon.sendStatus(s.Name)
		if b == nil || a == nil {
			return before, after, false
		}
		return traffic{map[string]uint64{all: b.Sent}, b.Filtered, b.Drops, b.FirstDrops, b.LastDrop},
			traffic{map[string]uint64{all: a.Sent}, a.Filtered, a.Drops, a.FirstDrops, a.LastDrop}, true
	}
	b, a := h.Daemon.receiveStatus(s.Name)
	if b == nil || a == nil {
		return before, after, false
	}
	return traffic{map[string]uint64{all: b.Published}, b.Filtered, b.Drops, b.FirstDrops, b.LastDrop},
		traffic{map[string]uint64{all: a.Published}, a.Filtered, a.Drops, a.FirstDrops, a.LastDrop}, true
}

// repeats leave out what says nothing new: once something has passed, that is as it is to be.
var repeats = []account.Reason{account.ReasonDuplicate, account.ReasonUnchanged, account.ReasonSuperseded}

// repeated is how much of what came was left out for that.
func (s *Subject) repeated(h *Snapshot) (texts []string) {
	before, after, ok := h.traffic(s)
	if !ok || after.passed[all] == 0 {
		return nil
	}
	for _, r := range repeats {
		if n := after.filtered[r.String()]; n > before.filtered[r.String()] {
			texts = append(texts, fmt.Sprintf("%d that came for %s said nothing new and were left out, as the rule asks (%s)", n-before.filtered[r.String()], s.Of, r))
		}
	}
	return texts
}

// checkFiltered names a filter where it is all that there is: nothing has passed since the start, or
// within the window nothing but what was filtered.
func checkFiltered(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	before, after, ok := h.traffic(s)
	if !ok {
		return nil, false
	}
	passed := after.passed[all] - min(after.passed[all], before.passed[all])
	for r, f := range filters {
		n := after.filtered[r.String()]
		grew := n - min(n, before.filtered[r.String()])
		if n == 0 || after.passed[all] > 0 && (grew == 0 || passed > 0 || slices.Contains(repeats, r)) {
			continue
		}
		found = append(found, s.finding(f.cause, f.fix, f.text,
			fmt.Sprintf("%d filtered since the start (%s), %d within %v; %d passed", n, r, grew, h.Window, after.passed[all])))
	}
	slices.SortFunc(found, func(a, b Finding) int { return cmp.Compare(a.Cause, b.Cause) })
	return found, true
}

// losses say which cause a reason for a loss is; others are said as they are.
var losses = map[account.Reason]struct {
	cause Cause
	fix   string
}{
	account.ReasonBreaker:     {Breaker, "end the loop of the other programs: topicast explain GROUP:PORT shows the topic, and loops.breaker says when it is taken for one"},
	account.ReasonQueueFull:   {QueueFull, "end what it waits for, or a larger queue.size, or on_down: spool in the rule"},
	account.ReasonSpoolFull:   {SpoolFull, "end what it waits for, or a larger spool.max_size"},
	account.ReasonSpoolFailed: {SpoolFull, "df -h and df -i of spool.dir: free space there, or name another folder"},
	account.ReasonFirewall:    {EgressFirewall, ""}, // by the rules, where they can be read
	account.ReasonUnreachable: {NoRoute, "name the interface that leads there, or add a route by it: ip route add HOST dev INTERFACE"},
}

// silence is what the bridge says of a host that ARP or neighbour discovery does not find.
const silence = "does not answer on its link"

// elsewhere are losses that other checks speak of.
var elsewhere = []account.Reason{account.ReasonOversize, account.ReasonReceiveBuffer, account.ReasonBrokerRefused, account.ReasonNoRule, account.ReasonRemoved, account.ReasonStopped}

// checkDropped names what was lost lately.
func checkDropped(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if _, _, ok := h.traffic(s); !ok {
		return nil, false
	}
	if spool := h.Daemon.After.Spool; spool != nil && spool.Error != "" {
		found = append(found, s.finding(SpoolFull, "df -h "+spool.Dir+"; free space there, or name another folder", "the spool cannot be used: "+spool.Error))
	}
	for _, l := range s.lostOf(h) {
		if l.over || l.other && l.ofRule() || s.TopicErr != nil && (l.reason == account.ReasonBadGroup || l.reason == account.ReasonBadHost) {
			continue // seen and lostBefore have it
		}
		verb := "drops what comes"
		if l.grew == 0 {
			verb = "has dropped what came"
		}
		f := s.finding(Dropped, remedies[l.reason], "the bridge "+verb+": "+l.first, l.String())
		if special, is := losses[l.reason]; is {
			f.Cause, f.Fix = special.cause, special.fix
			if l.reason == account.ReasonFirewall {
				f.Fix, _ = s.refusal(h)
			}
		}
		if l.reason == account.ReasonUnreachable && strings.Contains(l.first, silence) {
			_, host, _ := strings.Cut(l.first, "host ")
			host, _, _ = strings.Cut(host, " ")
			f = s.silent(host, f.Evidence, 1)
		}
		f.past = l.grew == 0
		found = append(found, f)
	}
	return found, true
}

// checkState says what the bridge says, where no other check has found the cause.
func checkState(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send {
		_, a := h.Daemon.sendStatus(s.Name)
		if a == nil {
			return nil, false
		}
		return s.state(h, a.State, a.Reason, a.Since), a.State == account.StateUp
	}
	_, a := h.Daemon.receiveStatus(s.Name)
	if a == nil {
		return nil, false
	}
	return s.state(h, a.State, a.Reason, a.Since), a.State == account.StateUp
}

func (s *Subject) state(h *Snapshot, state account.State, reason string, since time.Time) []Finding {
	if state == account.StateUp || strings.HasPrefix(reason, "no subscription to ") || !h.Daemon.After.Broker.Connected && strings.Contains(reason, "broker") {
		return nil
	}
	cause, fix := Pending, "what it says; the log of topicast tells more: journalctl -u topicast"
	if state == account.StateDegraded {
		cause = Degraded
	}
	switch {
	case state == account.StateDisabled:
		fix = "topicast enable " + mapping.ShellWord(s.Name)
	case strings.Contains(reason, "(expect)"):
		fix = s.listening() + " shows what comes here, and at the sender's port of the switch what it sends; where such a silence is as it is to be, a longer expect in the rule"
	case strings.Contains(reason, "comes back through other programs"):
		cause = Breaker
	case strings.Contains(reason, "is bound to"), strings.Contains(reason, "is taken"):
		cause = PortTaken
	case strings.Contains(reason, "does not let datagrams leave"):
		cause = EgressFirewall
		fix, _ = s.refusal(h)
	}
	f := s.finding(cause, fix, reason, fmt.Sprintf("the rule is %s since %s", state, since.Format(time.DateTime)))
	f.silence = strings.Contains(reason, "(expect)")
	return one(f)
}

// clockTrouble reports whether the broker's certificate is not of this time.
func clockTrouble(text string) bool {
	return strings.Contains(text, "certificate has expired or is not yet valid")
}

// checkClock looks for a clock that is wrong, or was set.
func checkClock(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	const grain = time.Minute
	fix := "timedatectl shows whether it is synchronized: systemctl enable --now systemd-timesyncd, or chronyc makestep"
	var evidence []string
	if ahead := h.FileTime.Sub(h.Now); !h.FileTime.IsZero() && ahead > grain {
		evidence = append(evidence, fmt.Sprintf("the configuration was written %v after now", ahead.Round(time.Second)))
	}
	if step := h.Step.Abs(); step > time.Second {
		evidence = append(evidence, fmt.Sprintf("it was set by %v within %v", h.Step.Round(time.Millisecond), h.Window))
	}
	if d := h.Daemon.After; d != nil {
		if ahead := d.Started.Sub(h.Now); ahead > grain {
			evidence = append(evidence, fmt.Sprintf("topicast was started %v after now", ahead.Round(time.Second)))
		}
		if !d.Broker.Connected && clockTrouble(d.Broker.Error) {
			evidence = append(evidence, d.Broker.Error)
			fix = "date -u; if that is right the broker needs another certificate. " + fix
		}
	}
	if len(evidence) == 0 {
		return nil, true
	}
	return one(s.finding(Clock, fix, fmt.Sprintf("the clock of this host seems to be wrong: it is %s", h.Now.Format(time.RFC3339)), evidence...)), true
}
