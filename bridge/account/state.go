package account

import "time"

// State is what a rule or a binding can do now.
type State string

const (
	StatePending  State = "pending"  // its interface, address or subscription is not there yet
	StateUp       State = "up"       // works
	StateDegraded State = "degraded" // works in part; the reason says in which
	StateDisabled State = "disabled" // switched off while the bridge runs; the reason says by whom
)

// Disabled is that a rule was switched off while the bridge runs.
type Disabled struct {
	Since time.Time
	By    string // whoever asked for it
}

// Reason is why the rule does nothing.
func (d *Disabled) Reason() string { return "disabled by " + d.By + "; topicast enable has it go on" }
