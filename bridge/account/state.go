package account

// State is what a rule or a binding can do now.
type State string

const (
	StatePending  State = "pending"  // its interface, address or subscription is not there yet
	StateUp       State = "up"       // works
	StateDegraded State = "degraded" // works in part; the reason says in which
)
