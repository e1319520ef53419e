package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SendRule is one entry of send: it carries the messages of a filter to a group.
type SendRule struct {
	Name     string   // unique among all rules; Compile makes "" the filter's text
	Filter   Filter   // which topics
	QoS      byte     // 0, 1 or 2: the quality of service to subscribe with
	Group    Group    // where to; may depend on the filter's captures
	Binding  Binding  // from where
	Retained Retained // what becomes of retained messages
	OnDown   OnDown   // what becomes of messages while the source or the interface is away
	Payload  Payload  // how the message's payload becomes the datagram's

	// MaxAge is how long a message may wait for the source or the interface; one
	// that waited longer is dropped, not sent late. 0: there is no limit.
	MaxAge time.Duration
}

// Binding is the local end of a sender. Equal bindings share one socket, so the
// type is comparable, and it says what is wanted: package multicast finds out
// whether this host has it.
type Binding struct {
	Interface  string       // name of the interface to leave from; "" takes the one that owns Source
	Source     netip.Prefix // address to leave from, or a prefix that picks one; the zero Prefix takes the interface's primary address
	SourcePort uint16       // UDP source port; 0 lets the kernel choose
	TTL        uint8        // 1 to 255; IPv6: the hop limit
	Loopback   bool         // whether programs on this host hear the datagrams too
	DSCP       uint8        // 0 to 63 (RFC 2474)
	IPv6       bool         // the address family of the groups; Compile sets it
	Fragment   bool         // whether a datagram above the interface's MTU leaves in IP fragments or is refused
}

// Retained says what becomes of a message that carries the RETAIN flag, that is,
// one the broker kept and hands out again at every new subscription.
type Retained uint8

const (
	RetainedOnce   Retained = iota // sent when it differs from the last one sent for that topic
	RetainedAlways                 // sent
	RetainedNever                  // not sent
)

var retainedNames = []string{"once", "always", "never"}

// ParseRetained reads once, always or never.
func ParseRetained(s string) (Retained, error) {
	i, err := parseName("retained", s, retainedNames, "once, always or never")
	return Retained(i), err
}

// parseName finds the place of s in names, which list spells out. key is what
// the value belongs to.
func parseName(key, s string, names []string, list string) (int, error) {
	if i := slices.Index(names, s); i >= 0 {
		return i, nil
	}
	err := errors.New("is not " + list)
	if meant := near(s, names); meant != "" {
		err = fmt.Errorf("%w; did you mean %s", err, meant)
	}
	return 0, fmt.Errorf("%s %s: %w", key, quote(s), err)
}

// String returns once, always or never.
func (r Retained) String() string {
	if int(r) >= len(retainedNames) {
		return "Retained(" + strconv.Itoa(int(r)) + ")"
	}
	return retainedNames[r]
}

// MarshalText is String.
func (r Retained) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRetained.
func (r *Retained) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRetained(string(text))
	return err
}

// dscpNames are the names of IANA's DSCP registry, and those in common use for 0.
var dscpNames = map[string]uint8{
	"DF": 0, "BE": 0, // RFC 2474, RFC 8622
	"CS0": 0, "CS1": 8, "CS2": 16, "CS3": 24, "CS4": 32, "CS5": 40, "CS6": 48, "CS7": 56, // RFC 2474
	"AF11": 10, "AF12": 12, "AF13": 14, "AF21": 18, "AF22": 20, "AF23": 22, // RFC 2597
	"AF31": 26, "AF32": 28, "AF33": 30, "AF41": 34, "AF42": 36, "AF43": 38,
	"EF": 46,                    // RFC 3246
	"VA": 44, "VOICE-ADMIT": 44, // RFC 5865
	"LE": 1, // RFC 8622
}

// ParseDSCP reads a Differentiated Services Code Point: 0 to 63, or a name such
// as EF, AF41, CS5, VOICE-ADMIT or LE, in either case.
func ParseDSCP(s string) (uint8, error) {
	if value, ok := dscpNames[strings.ToUpper(s)]; ok {
		return value, nil
	}
	if value, err := strconv.ParseUint(s, 10, 8); err == nil && value <= maxDSCP {
		return uint8(value), nil
	}
	return 0, fmt.Errorf("dscp %s: is not 0 to 63, nor a name such as EF, AF41, CS5 or LE (a TOS byte is the dscp times 4)", quote(s))
}

const maxDSCP = 63
