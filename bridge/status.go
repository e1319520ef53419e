package bridge

import (
	"iter"
	"os"
	"slices"
	"time"

	"topicast/bridge/loopguard"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/bridge/session"
)

// Status is what /status and the status page show. Its JSON names are part of
// the interface: they may be added to, not changed.
type Status struct {
	Version string    `json:"version"`
	Host    string    `json:"host,omitempty"` // its name
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	Waiting []string  `json:"waiting,omitempty"` // why it is not ready, a sentence each

	// What is pending or degraded, one by one, and how many more than are listed.
	Conditions     []Condition `json:"conditions,omitempty"`
	MoreConditions int         `json:"more_conditions,omitempty"`

	Broker BrokerStatus     `json:"broker"`
	Queue  QueueStatus      `json:"queue"`
	Spool  *SpoolStatus     `json:"spool,omitempty"`  // none: there is no spool.dir
	Loops  *loopguard.Usage `json:"loops,omitempty"`  // nil: the guard is off
	Reload *ReloadStatus    `json:"reload,omitempty"` // none: the configuration is that of the start
	NoRule uint64           `json:"no_rule"`          // messages that matched no rule
	// HostUnclaimed is left out without receive rules, and where the system does not tell.
	HostUnclaimed *HostUnclaimedStatus `json:"host_unclaimed,omitempty"`
	Summary       Summary              `json:"summary"`
	Rules         []send.Status        `json:"rules"` // of send
	Receive       []receive.Status     `json:"receive,omitempty"`
}

// BrokerStatus is the session with the broker.
type BrokerStatus struct {
	Connected      bool           `json:"connected"`
	URL            string         `json:"url,omitempty"`
	Protocol       string         `json:"protocol,omitempty"` // version of MQTT: 5 or 3.1.1
	ClientID       string         `json:"client_id"`
	Since          time.Time      `json:"since,omitzero"` // connected, or not, since then
	SessionPresent bool           `json:"session_present"`
	Connects       int            `json:"connects"`
	Attempts       int            `json:"attempts,omitempty"`   // connects that failed since there was a connection
	Limits         session.Limits `json:"limits,omitzero"`      // what it takes, on this connection or the last
	Error          string         `json:"error,omitempty"`      // why the last one did, or why the connection ended
	Losses         int            `json:"losses,omitempty"`     // connections that were lost since one has held for an hour
	LastLoss       string         `json:"last_loss,omitempty"`  // why the last of them was
	Unsteady       bool           `json:"unsteady,omitempty"`   // connected, and lost so often lately that it may not last
	Subscriptions  int            `json:"subscriptions"`        // granted
	Unanswered     int            `json:"unanswered,omitempty"` // asked for, and not answered yet
	Outstanding    int            `json:"outstanding"`          // messages for the broker that it has not acknowledged yet
	QuotaSince     time.Time      `json:"quota_since,omitzero"` // since when it refuses messages for its quota, and gets them again later
	Unmatched      uint64         `json:"no_subscribers"`       // messages that it has, and that nobody has subscribed to
	PacedSince     time.Time      `json:"paced_since,omitzero"` // since when messages always wait for max_rate
	Unacknowledged int            `json:"unacknowledged"`       // messages of the broker that topicast has not acknowledged yet
	Refused        []string       `json:"refused,omitempty"`    // filters the broker refused, and those left out because of what it takes; 100 at most
	MoreRefused    int            `json:"more_refused,omitempty"`
}

// QueueStatus is what waits in memory.
type QueueStatus struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Size     int64 `json:"size"` // the limit, in bytes

	// Of the limit, what is kept for each receive rule, and for each source and interface
	// that send rules leave by; the rest is for whoever comes first.
	KeptReceive int64 `json:"kept_receive,omitempty"`
	KeptSend    int64 `json:"kept_send,omitempty"`
}

// SpoolStatus is what waits on disk.
type SpoolStatus struct {
	Dir      string `json:"dir"`
	Messages int    `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Size     int64  `json:"size"`            // the limit, in bytes
	Error    string `json:"error,omitempty"` // why it cannot be used
}

// Status is a snapshot of everything.
func (b *Bridge) Status() Status { return b.StatusOf(Query{}) }

// StatusOf is a snapshot with the rules that the query asks for.
func (b *Bridge) StatusOf(q Query) Status {
	s, sends, receives := b.Snapshot(q)
	s.Rules, s.Receive = slices.AppendSeq([]send.Status{}, sends), slices.Collect(receives)
	return s
}

// Snapshot is a Status without its rules, and these one by one, as they are when they
// are asked for: whoever reads slowly holds no more than one.
func (b *Bridge) Snapshot(q Query) (s Status, sends iter.Seq[send.Status], receives iter.Seq[receive.Status]) {
	g, now := b.current(), time.Now()
	s = Status{
		Version:       b.options.Version,
		Host:          hostName(),
		Started:       b.started,
		Queue:         b.queueStatus(),
		Spool:         b.spoolStatus(),
		Loops:         b.receive.GuardUsage(),
		Reload:        b.reloads.Load(),
		NoRule:        b.send.Unmatched(),
		HostUnclaimed: b.hostUnclaimedStatus(),
	}
	state := b.session.State()
	s.Broker = b.brokerStatus(state)
	o := g.overview(s.Broker, state, now)
	l := look{query: q, now: now, sends: o.sends}
	var chosen []view
	chosen, s.Summary = g.choose(&l)
	r := b.readiness(o)
	s.Ready, s.Conditions, s.MoreConditions = r.Ready, r.Conditions, r.More
	s.Waiting = o.sentences(r.Conditions)
	sends = func(yield func(send.Status) bool) {
		for i, v := range chosen {
			if v.send == nil {
				continue
			}
			s := l.sends.Status(v.send, i)
			s.Members = b.members.Of(v.send.SendRule)
			s.Settings = g.settingsOf(v.send.SendRule, b.options.Settings)
			if !yield(s) {
				return
			}
		}
	}
	receives = func(yield func(receive.Status) bool) {
		for i, v := range chosen {
			if v.receive == nil {
				continue
			}
			s := v.receive.Status(l.now, i)
			s.Settings = g.settingsOf(v.receive.ReceiveRule, b.options.Settings)
			if !yield(s) {
				return
			}
		}
	}
	return s, sends, receives
}

func hostName() string {
	name, err := os.Hostname() // of the kernel: it may change
	if err != nil {
		return ""
	}
	return name
}

func (b *Bridge) queueStatus() QueueStatus {
	s := QueueStatus{Messages: b.budget.Count(), Bytes: b.budget.Bytes(), Size: b.budget.Size()}
	s.KeptReceive, s.KeptSend = b.budget.Kept()
	return s
}

func (b *Bridge) spoolStatus() *SpoolStatus {
	o := &b.options.Spool
	if o.Dir == "" {
		return nil
	}
	s := &SpoolStatus{Dir: o.Dir, Size: o.Size}
	if o.On != nil {
		s.Messages, s.Bytes = o.On.Len(), o.On.Bytes()
	}
	if err := o.spoolErr(); err != nil {
		s.Error = err.Error()
	}
	return s
}

func (b *Bridge) brokerStatus(state session.State) BrokerStatus {
	s := BrokerStatus{
		Connected: state.Connected, URL: state.Broker, Protocol: state.Protocol, Limits: state.Limits, ClientID: b.options.Session.ClientID, Since: state.Since,
		SessionPresent: state.SessionPresent, Connects: state.Connects, Attempts: state.Attempts, Error: state.LastErr,
		Losses: state.Losses, LastLoss: state.LastLoss, Unsteady: state.Unsteady,
		Subscriptions: state.Active, Unanswered: state.Unanswered, Outstanding: b.session.Outstanding(), PacedSince: state.PacedSince, QuotaSince: state.QuotaSince, Unmatched: state.Unmatched, Unacknowledged: state.Held,
	}
	for _, sub := range state.Troubled {
		switch {
		case sub.Active:
		case len(s.Refused) < maxConditions:
			s.Refused = append(s.Refused, sub.Filter)
		default:
			s.MoreRefused++
		}
	}
	return s
}
