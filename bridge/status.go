package bridge

import (
	"fmt"
	"net/netip"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Status is what /status and the status page show. Its JSON names are part of
// the interface: they may be added to, not changed.
type Status struct {
	Version string       `json:"version"`
	Started time.Time    `json:"started"`
	Ready   bool         `json:"ready"`
	Waiting []string     `json:"waiting,omitempty"` // why it is not ready, a sentence each
	Broker  BrokerStatus `json:"broker"`
	Queue   QueueStatus  `json:"queue"`
	NoRule  uint64       `json:"no_rule"` // messages that matched no rule
	Rules   []RuleStatus `json:"rules"`
}

// BrokerStatus is the session with the broker.
type BrokerStatus struct {
	Connected      bool      `json:"connected"`
	URL            string    `json:"url,omitempty"`
	ClientID       string    `json:"client_id"`
	Since          time.Time `json:"since,omitzero"` // connected, or not, since then
	SessionPresent bool      `json:"session_present"`
	Connects       int       `json:"connects"`
	Error          string    `json:"error,omitempty"`
	Subscriptions  int       `json:"subscriptions"`        // granted
	Unanswered     int       `json:"unanswered,omitempty"` // asked for, and not answered yet
	Refused        []string  `json:"refused,omitempty"`    // filters the broker refused
}

// QueueStatus is what waits in memory.
type QueueStatus struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Size     int64 `json:"size"` // the limit, in bytes
}

// RuleStatus is one rule: what it says, what it does now, and what has become of
// its messages since the start.
type RuleStatus struct {
	Name       string            `json:"name"`
	Direction  string            `json:"direction"` // send
	Filter     string            `json:"filter"`
	Group      string            `json:"group"`
	Interface  string            `json:"interface,omitempty"`
	Source     string            `json:"source,omitempty"` // with the port once it is up
	State      State             `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Since      time.Time         `json:"since"`
	SelfTest   SelfTest          `json:"self_test"`
	Received   uint64            `json:"messages_received"`
	Sent       uint64            `json:"datagrams_sent"`
	SentBytes  uint64            `json:"sent_bytes"`
	Drops      map[string]uint64 `json:"drops,omitempty"`       // by reason
	FirstDrops map[string]string `json:"first_drops,omitempty"` // topic and cause of the first of each reason
}

// SelfTest is what the binding's probe of itself showed.
type SelfTest struct {
	Result string `json:"result,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Status is a snapshot of everything.
func (b *Bridge) Status() Status {
	s := Status{
		Version: b.options.Version,
		Started: b.started,
		Queue:   QueueStatus{Messages: b.room.messages.Load(), Bytes: b.room.bytes.Load(), Size: b.room.max},
		NoRule:  b.path.noRule.Load(),
		Rules:   make([]RuleStatus, 0, len(b.rules)),
	}
	state := b.session.State()
	s.Broker = b.brokerStatus(state)
	refused, lowered := troubled(state.Subscriptions)
	for _, r := range b.rules {
		s.Rules = append(s.Rules, r.status(refused, lowered))
	}
	s.Waiting = s.waiting()
	s.Ready = len(s.Waiting) == 0
	return s
}

func (b *Bridge) brokerStatus(state session.State) BrokerStatus {
	s := BrokerStatus{
		Connected: state.Connected, URL: state.Broker, ClientID: b.options.Session.ClientID, Since: state.Since,
		SessionPresent: state.SessionPresent, Connects: state.Connects, Error: state.LastErr,
	}
	for _, sub := range state.Subscriptions {
		switch {
		case sub.Active:
			s.Subscriptions++
		case sub.Err != "":
			s.Refused = append(s.Refused, sub.Filter)
		default:
			s.Unanswered++
		}
	}
	return s
}

// troubled picks the subscriptions that were refused, or granted with less than
// was asked for.
func troubled(subs []session.SubscriptionState) (refused, lowered []mapping.Filter) {
	for _, s := range subs {
		f, err := mapping.ParseFilter(s.Filter)
		switch {
		case err != nil:
		case !s.Active && s.Err != "":
			refused = append(refused, f)
		case s.Active && s.Granted < s.QoS:
			lowered = append(lowered, f)
		}
	}
	return refused, lowered
}

func (r *sendRule) status(refused, lowered []mapping.Filter) RuleStatus {
	s := RuleStatus{
		Name: r.Name, Direction: "send", Filter: r.Filter.String(), Group: r.Group.String(),
		Received: r.received.Load(), Sent: r.sent.Load(), SentBytes: r.sentBytes.Load(),
	}
	r.binding.describe(&s)
	if f, ok := covering(refused, r.Filter); ok {
		s.State, s.Reason = StatePending, fmt.Sprintf("the broker refuses the subscription to %s", f)
	} else if f, ok := covering(lowered, r.Filter); ok && s.State == StateUp {
		s.State, s.Reason = StateDegraded, fmt.Sprintf("the broker grants %s a lower quality of service than asked", f)
	}
	for why, n := range r.drops() {
		if s.Drops == nil {
			s.Drops, s.FirstDrops = make(map[string]uint64), make(map[string]string)
		}
		s.Drops[why.String()] = n
		if first := r.lost.Load()[why].first.Load(); first != nil {
			s.FirstDrops[why.String()] = *first
		}
	}
	return s
}

func covering(filters []mapping.Filter, of mapping.Filter) (mapping.Filter, bool) {
	for _, f := range filters {
		if f.Covers(of) {
			return f, true
		}
	}
	return mapping.Filter{}, false
}

// describe fills in the binding's part.
func (b *binding) describe(s *RuleStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.State, s.Reason, s.Since = b.state, b.reason, b.since
	s.Interface = b.want.Interface
	if b.want.Source.IsValid() {
		s.Source = sourceText(b.want.Source)
	}
	if b.socket != nil {
		s.Interface, s.Source = b.source.Interface, b.socket.LocalAddr().String()
	}
	if b.probe != (multicast.Probe{}) {
		s.SelfTest = SelfTest{Result: b.probe.Result.String(), Detail: b.probe.Detail}
	}
}

// sourceText writes a single address as one, and a prefix as one.
func sourceText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// waiting says what is missing for readiness; many rules with one trouble are
// one sentence.
func (s *Status) waiting() (why []string) {
	if !s.Broker.Connected {
		text := "no connection to the broker"
		if s.Broker.Error != "" {
			text += ": " + s.Broker.Error
		}
		why = append(why, text)
	}
	first := make(map[string]int) // reason to its place in why
	count := make(map[string]int)
	for _, r := range s.Rules {
		if r.State != StatePending {
			continue
		}
		if count[r.Reason]++; count[r.Reason] == 1 {
			first[r.Reason] = len(why)
			why = append(why, fmt.Sprintf("rule %s is pending: %s", r.Name, r.Reason))
		}
	}
	for reason, i := range first {
		if n := count[reason]; n > 1 {
			why[i] = fmt.Sprintf("%d rules are pending: %s", n, reason)
		}
	}
	if s.Broker.Connected && s.Broker.Unanswered > 0 {
		why = append(why, fmt.Sprintf("the broker has not confirmed %d subscriptions yet", s.Broker.Unanswered))
	}
	return why
}
