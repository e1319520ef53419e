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
	Version string          `json:"version"`
	Started time.Time       `json:"started"`
	Ready   bool            `json:"ready"`
	Waiting []string        `json:"waiting,omitempty"` // why it is not ready, a sentence each
	Broker  BrokerStatus    `json:"broker"`
	Queue   QueueStatus     `json:"queue"`
	Spool   *SpoolStatus    `json:"spool,omitempty"`  // none: there is no spool.dir
	Reload  *ReloadStatus   `json:"reload,omitempty"` // none: the configuration is that of the start
	NoRule  uint64          `json:"no_rule"`          // messages that matched no rule
	Rules   []RuleStatus    `json:"rules"`            // of send
	Receive []ReceiveStatus `json:"receive,omitempty"`
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
	Outstanding    int       `json:"outstanding"`          // messages for the broker that it has not acknowledged yet
	Refused        []string  `json:"refused,omitempty"`    // filters the broker refused
}

// QueueStatus is what waits in memory.
type QueueStatus struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Size     int64 `json:"size"` // the limit, in bytes
}

// SpoolStatus is what waits on disk.
type SpoolStatus struct {
	Dir      string `json:"dir"`
	Messages int    `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Size     int64  `json:"size"`            // the limit, in bytes
	Error    string `json:"error,omitempty"` // why it cannot be used
}

// RuleStatus is one send rule: what it says, what it does now, and what has become of
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

// ReceiveStatus is one receive rule: what it says, what it does now, and what has
// become of its datagrams since the start.
type ReceiveStatus struct {
	Name       string            `json:"name"`
	Groups     []string          `json:"groups"`
	Interface  string            `json:"interface"`         // its name, once it is known
	Sources    []string          `json:"sources,omitempty"` // none: anybody
	Topic      string            `json:"topic"`
	State      State             `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Since      time.Time         `json:"since"`
	Sockets    int               `json:"sockets"`          // one a group
	Joined     int               `json:"joined"`           // how many of them listen
	Buffer     int               `json:"buffer,omitempty"` // bytes of receive buffer that each was granted
	Received   uint64            `json:"datagrams_received"`
	Published  uint64            `json:"messages_published"`
	Drops      map[string]uint64 `json:"drops,omitempty"`       // by reason
	FirstDrops map[string]string `json:"first_drops,omitempty"` // datagram and cause of the first of each reason
}

// SelfTest is what the binding's probe of itself showed.
type SelfTest struct {
	Result string `json:"result,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Status is a snapshot of everything.
func (b *Bridge) Status() Status {
	p := b.parts()
	s := Status{
		Version: b.options.Version,
		Started: b.started,
		Queue:   QueueStatus{Messages: b.room.messages.Load(), Bytes: b.room.bytes.Load(), Size: b.room.max},
		Spool:   b.spoolStatus(),
		Reload:  b.reloads.Load(),
		NoRule:  b.send.noRule.Load(),
		Rules:   make([]RuleStatus, 0, len(p.sends)),
	}
	state := b.session.State()
	s.Broker = b.brokerStatus(state)
	refused, lowered := troubled(state.Troubled)
	bindings := p.describeBindings()
	for _, r := range p.sends {
		s.Rules = append(s.Rules, r.status(bindings[r.binding], refused, lowered))
	}
	for _, r := range p.receives {
		s.Receive = append(s.Receive, r.status())
	}
	s.Waiting = b.waiting(s.Broker, state)
	s.Ready = len(s.Waiting) == 0
	return s
}

func (b *Bridge) spoolStatus() *SpoolStatus {
	o := &b.options.Spool
	if o.Dir == "" {
		return nil
	}
	s := &SpoolStatus{Dir: o.Dir, Size: o.Size}
	err := o.Err
	if o.On != nil {
		s.Messages, s.Bytes, err = o.On.Len(), o.On.Bytes(), o.On.Err()
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (b *Bridge) brokerStatus(state session.State) BrokerStatus {
	s := BrokerStatus{
		Connected: state.Connected, URL: state.Broker, ClientID: b.options.Session.ClientID, Since: state.Since,
		SessionPresent: state.SessionPresent, Connects: state.Connects, Error: state.LastErr,
		Subscriptions: state.Active, Unanswered: state.Unanswered, Outstanding: b.session.Outstanding(),
	}
	for _, sub := range state.Troubled {
		if !sub.Active {
			s.Refused = append(s.Refused, sub.Filter)
		}
	}
	return s
}

// A trouble is a subscription that the broker has not granted as asked.
type trouble struct {
	filter mapping.Filter
	text   string
}

// troubled parts the subscriptions in trouble into those that were refused, and
// those that were granted with less than was asked for.
func troubled(subs []session.SubscriptionState) (refused, lowered []trouble) {
	for _, s := range subs {
		switch f, err := mapping.ParseFilter(s.Filter); {
		case err != nil:
		case s.Active:
			lowered = append(lowered, trouble{f, fmt.Sprintf("the broker grants %s a lower quality of service than asked", f)})
		default:
			refused = append(refused, trouble{f, fmt.Sprintf("the broker refuses the subscription to %s", f)})
		}
	}
	return refused, lowered
}

// status completes what is known of the rule's binding.
func (r *sendRule) status(s RuleStatus, refused, lowered []trouble) RuleStatus {
	s.Name, s.Direction, s.Filter, s.Group = r.Name, "send", r.Filter.String(), r.Group.String()
	s.Received, s.Sent, s.SentBytes = r.received.Load(), r.sent.Load(), r.sentBytes.Load()
	s.State, s.Reason = r.judge(&s, refused, lowered)
	s.Drops, s.FirstDrops = r.ledger.describe()
	return s
}

// judge says which state a rule is in whose binding is in that of s, by what the
// broker says to its subscription.
func (r *sendRule) judge(s *RuleStatus, refused, lowered []trouble) (State, string) {
	if text, ok := covering(refused, r.Filter); ok {
		return StatePending, text
	}
	if text, ok := covering(lowered, r.Filter); ok && s.State == StateUp {
		return StateDegraded, text
	}
	return s.State, s.Reason
}

func (r *receiveRule) status() ReceiveStatus {
	s := ReceiveStatus{
		Name: r.Name, Topic: r.Topic.String(),
		Received: r.received.Load(), Published: r.published.Load(),
	}
	for _, g := range r.Groups {
		s.Groups = append(s.Groups, g.String())
	}
	for _, p := range r.Sources {
		s.Sources = append(s.Sources, sourceText(p))
	}
	s.Drops, s.FirstDrops = r.ledger.describe()
	r.describe(&s)
	return s
}

// ask fills in what the memberships say: one that is in trouble speaks for the
// rule, which is up if none is and pending if all are. It returns how many are.
func (r *receiveRule) ask(s *ReceiveStatus) (pending int) {
	s.State, s.Interface = StateUp, r.Interface
	for _, m := range r.memberships {
		m.mu.Lock()
		s.Sockets++
		if m.ear != nil {
			s.Joined++
			s.Buffer, s.Interface = m.ear.socket.Buffer(), m.ear.at.Name
		}
		if m.since.After(s.Since) {
			s.Since = m.since
		}
		if m.state == StatePending {
			if pending++; pending == 1 {
				s.State, s.Reason = StateDegraded, m.reason
			}
		}
		m.mu.Unlock()
	}
	if pending == len(r.memberships) {
		s.State = StatePending
	}
	return pending
}

// judge says which state the rule is in, and why it is pending if it is: of
// describe, what many rules are asked for often, without its words.
func (r *receiveRule) judge(now time.Time) (State, string) {
	var s ReceiveStatus
	r.ask(&s)
	if s.State == StateUp && !r.breaker.resting(now).IsZero() {
		s.State = StateDegraded
	}
	return s.State, s.Reason
}

// joined fills in what the memberships say, in words.
func (r *receiveRule) joined(s *ReceiveStatus) {
	if pending := r.ask(s); s.State == StateDegraded {
		s.Reason = fmt.Sprintf("%d of %d groups are not joined: %s", pending, s.Sockets, s.Reason)
	}
}

// describe adds what the breaker says.
func (r *receiveRule) describe(s *ReceiveStatus) {
	r.joined(s)
	if until := r.breaker.resting(time.Now()); !until.IsZero() && s.State != StatePending {
		s.State = StateDegraded
		s.Reason = fmt.Sprintf("the rule ran away and rests until %s: one payload came more than %d times in a second",
			until.Format(time.TimeOnly), r.breaker.limit)
	}
}

func covering(troubles []trouble, of mapping.Filter) (text string, ok bool) {
	for i := range troubles {
		if troubles[i].filter.Covers(of) {
			return troubles[i].text, true
		}
	}
	return "", false
}

// describeBindings asks each binding once, however many rules it has: it takes the
// lock that its messages need.
func (p *parts) describeBindings() map[*binding]RuleStatus {
	all := make(map[*binding]RuleStatus, len(p.bindings))
	for _, o := range p.bindings {
		var s RuleStatus
		o.describe(&s)
		all[o] = s
	}
	return all
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

// Waiting says what is missing for readiness, a sentence each; of a bridge that is
// ready, nothing. It is for whoever asks often: a Status has every rule.
func (b *Bridge) Waiting() []string {
	state := b.session.State()
	return b.waiting(b.brokerStatus(state), state)
}

// waiting makes one sentence of many rules with one trouble.
func (b *Bridge) waiting(broker BrokerStatus, state session.State) (why []string) {
	if !broker.Connected {
		text := "no connection to the broker"
		if broker.Error != "" {
			text += ": " + broker.Error
		}
		why = append(why, text)
	}
	first := make(map[string]int) // reason to its place in why
	count := make(map[string]int)
	b.parts().judge(state.Troubled, func(name string, state State, reason string) {
		if state != StatePending {
			return
		}
		if count[reason]++; count[reason] == 1 {
			first[reason] = len(why)
			why = append(why, fmt.Sprintf("rule %s is pending: %s", name, reason))
		}
	})
	for reason, i := range first {
		if n := count[reason]; n > 1 {
			why[i] = fmt.Sprintf("%d rules are pending: %s", n, reason)
		}
	}
	if broker.Connected && broker.Unanswered > 0 {
		why = append(why, fmt.Sprintf("the broker has not confirmed %d subscriptions yet", broker.Unanswered))
	}
	return why
}

// judge tells the state of each rule, those of send first, and why it is so where
// it is pending. It makes no garbage by the rule.
func (p *parts) judge(subs []session.SubscriptionState, tell func(name string, state State, reason string)) {
	refused, lowered := troubled(subs)
	bindings := p.describeBindings()
	for _, r := range p.sends {
		s := bindings[r.binding]
		state, reason := r.judge(&s, refused, lowered)
		tell(r.Name, state, reason)
	}
	now := time.Now()
	for _, r := range p.receives {
		state, reason := r.judge(now)
		tell(r.Name, state, reason)
	}
}
