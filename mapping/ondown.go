package mapping

// OnDown says what becomes of a rule's messages while its source or its
// interface is away.
type OnDown uint8

const (
	OnDownUnset  OnDown = iota // only before Compile, which makes it drop for QoS 0 and spool for the others
	OnDownSpool                // they are kept in order; not for QoS 0, which the broker does not keep either
	OnDownLatest               // the last message of each topic is kept
	OnDownDrop                 // they are dropped
)

var onDownNames = wordList{"spool", "latest", "drop"}

// ParseOnDown reads spool, latest or drop.
func ParseOnDown(s string) (OnDown, error) {
	i, err := parseName("on_down", s, onDownNames)
	if err != nil {
		return OnDownUnset, err
	}
	return OnDownSpool + OnDown(i), nil
}

// String returns spool, latest or drop, and "" where it is not set.
func (o OnDown) String() string {
	if o == OnDownUnset {
		return ""
	}
	return onDownNames.word(int(o-OnDownSpool), int(o), "OnDown")
}

// MarshalText is String.
func (o OnDown) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is ParseOnDown.
func (o *OnDown) UnmarshalText(text []byte) (err error) {
	*o, err = ParseOnDown(string(text))
	return err
}

// DefaultOnDown is what a rule of that quality of service does where it does not
// say.
func DefaultOnDown(qos byte) OnDown {
	if qos == 0 {
		return OnDownDrop
	}
	return OnDownSpool
}

// checkOnDown fills in the default. What QoS 0 brings may be lost anywhere on its
// way, so that a disk would promise more than the broker does.
func (c *compilation) checkOnDown(r *SendRule) {
	switch {
	case int(r.OnDown) > len(onDownNames):
		c.fault("on_down", "", "%d is not %v", uint8(r.OnDown), onDownNames)
	case r.OnDown == OnDownUnset:
		r.OnDown = DefaultOnDown(r.QoS)
	case r.OnDown == OnDownSpool && r.QoS == 0:
		c.fault("on_down", "use qos: 1, or on_down: latest", "spool keeps messages of QoS 1 and 2 only, and the rule has qos: 0")
	}
	if r.MaxAge < 0 {
		c.fault("max_age", "0s sets no limit", "%v is less than 0s", r.MaxAge)
	}
}
