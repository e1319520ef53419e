package mapping

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SendRule is one entry of send: it carries the messages of a filter to a group or to a
// host. The tags are those of package configs, and the one place that says what a key is.
type SendRule struct {
	// Name is unique among all rules; Compile makes "" the filter's text.
	Name    string  `key:"name" usage:"what the rule is called in the log, the metrics and the status page; empty: its filter"`
	Filter  Filter  `key:"filter" usage:"which topics: + is any one level, # the rest, {name} a + and {name#} a # whose text group and host may use"`
	QoS     byte    `key:"qos" default:"1" range:"0..2" usage:"the quality of service to subscribe with"`
	Share   string  `key:"share" usage:"the name of a shared subscription, in which each message goes to one of several bridges; empty: every message is ours" means:": every message|*: of those that share the name one gets each message"`
	Group   Group   `key:"group" usage:"where to: address:port of a multicast group; {...} is a capture of the filter, a field of the payload, or integer arithmetic on them"`
	Host    Host    `key:"host" usage:"in place of group: address:port of one host, or of the broadcast address of the interface's network; {...} as in group"`
	Binding Binding // from where
	// Retained is about messages that the broker had kept.
	Retained Retained `key:"retained" default:"once" oneof:"once|always|never" usage:"messages that the broker had kept: sent once, always or never" means:"once: sent when it differs from the last one sent for the topic|always: sent like others|never: not sent"`
	OnDown   OnDown   `key:"on_down" oneof:"spool|latest|drop" usage:"messages that come while source or interface is away: spool, latest or drop; left out: spool, and drop for QoS 0" means:"spool: while source or interface is away messages are kept|latest: while source or interface is away the last message of each topic is kept|drop: while source or interface is away messages are dropped"`
	// MaxAge is without a limit at 0.
	MaxAge  time.Duration    `key:"max_age" range:"0s..8760h" usage:"how long a message may wait for source or interface before it is dropped; left out: as long as spool.max_age says; 0s: no limit" means:"0s: nothing is too old to be sent|*: what has waited longer is dropped"`
	When    MessageCondition `key:"when" usage:"which of the topics' messages: a condition over payload and captures, as u16@16 == 0x6069 && size > 20; empty: all" means:": every message|*: only messages that satisfy this"`
	Payload Payload          `key:"payload" default:"raw" usage:"how a message's payload becomes the datagram's: raw, hex, base64, or json:/pointer" means:"raw: the same bytes|*: decoded before sending"`
	Prefix  Affix            `key:"prefix" usage:"what stands before the payload in each datagram: a text, or hex:0d0a; empty: nothing" means:": nothing before the payload|*: before the payload"`
	Suffix  Affix            `key:"suffix" usage:"what stands behind the payload in each datagram: a text, or hex:0d0a; empty: nothing" means:": nothing behind the payload|*: behind the payload"`
	// DropEmpty is about a retained topic that is cleared, for example.
	DropEmpty bool          `key:"empty" default:"send" oneof:"send|drop" true:"drop" usage:"a message whose datagram would be empty, as a retained topic that is cleared brings one: send or drop" means:"send: what comes to no bytes sends an empty datagram|drop: a message without a payload sends nothing"`
	Counter   Counter       `key:"counter" usage:"bytes that count up with each datagram of the target, such as u8@111: the kind, u8, u16, u32, u16le or u32le, and the byte they begin at; empty: none" means:": none|*: these bytes count up with each datagram of the target"`
	Rate      Rate          `key:"rate" usage:"how many datagrams each target gets at most, evenly spaced, such as 50/s or 10/m; empty: no limit" means:"*: each target gets no more, evenly spaced"`
	WhenOver  WhenOver      `key:"when_over" default:"wait" oneof:"wait|latest|drop" usage:"messages that come faster than rate: wait, latest or drop" means:"wait: what comes faster waits, in order|latest: of what comes faster the last message of each topic waits|drop: what comes faster is dropped"`
	Repeat    Repeat        `key:"repeat" default:"1" usage:"how often each datagram is sent, for a network that loses some" means:"1: each datagram is sent once|*: the copies end with a newer message of the topic"`
	Refresh   time.Duration `key:"refresh" default:"0s" range:"0s..1h" usage:"how often the last datagram of each topic is sent again, for devices that join late or forget; 0s: never" means:"0s: nothing is sent again by itself|*: the last datagram of each topic is sent again after this time"`
	Members   bool          `key:"members" default:"false" usage:"whether it is watched who has joined the group (IGMP, MLD), for the status, explain and doctor; it needs CAP_NET_RAW" means:"false: who has joined the group is not watched|true: who has joined the group is watched (CAP_NET_RAW)"`
	// Answer is nil where nobody waits for answers.
	Answer   *Answer `key:"answer" usage:"what becomes of the datagrams that come back to the port that the rule sends from, such as { topic: \"answers/{source}\", within: 500ms }; empty: they are dropped" means:": what comes back to its port is dropped|*: what comes back to its port is published, and where nothing does in time, that is counted"`
	AgeGiven bool    // MaxAge is the rule's own, and not that of the spool: then Refresh ends with it
	Common   string  // the Name that the configuration gives the rule, which it has in common with those of its other interfaces; Compile sets it
}

// Binding is the local end of a sender. Equal bindings share one socket, so the
// type is comparable, and it says what is wanted: package multicast finds out
// whether this host has it.
type Binding struct {
	Source     netip.Prefix `key:"source" usage:"the address of this host that datagrams leave from, or a prefix that picks one"`                                                  // the zero Prefix takes the interface's primary address
	Interface  string       `key:"interface" parse:"interfaces" usage:"the name of the interface that datagrams leave by; or a list of names and patterns such as vlan*: by each"` // "" takes the one that owns Source
	SourcePort uint16       `key:"source_port" default:"0" range:"0..65535" usage:"the UDP port that datagrams leave from; 0: any free one"`
	TTL        uint8        `key:"ttl" default:"1" range:"1..255" usage:"how many networks a datagram may cross, the first included; left out with host: 64"` // IPv6: the hop limit
	Loopback   bool         `key:"loopback" default:"true" usage:"whether programs on this host hear the datagrams too" means:"true: programs on this host hear them too|false: programs on this host do not hear them"`
	DSCP       uint8        `key:"dscp" default:"0" parse:"dscp" usage:"the traffic class of the datagrams: 0 to 63, or a name such as EF, AF41 or CS5"` // RFC 2474
	IPv6       bool         // the address family of the targets; Compile sets it
	Host       bool         // the targets are hosts, and no groups; Compile sets it
	Answers    string       // the rule that what comes back to the socket is for, which is that rule's alone; "": nobody reads it. Compile sets it
	Fragment   bool         `key:"oversize" default:"fragment" oneof:"fragment|drop" true:"fragment" usage:"a datagram above the MTU of its interface: fragment or drop"`
}

// Retained says what becomes of a message that carries the RETAIN flag, that is,
// one the broker kept and hands out again at every new subscription.
type Retained uint8

const (
	RetainedOnce   Retained = iota // sent when it differs from the last one sent for that topic
	RetainedAlways                 // sent
	RetainedNever                  // not sent
)

var retainedNames = wordList{"once", "always", "never"}

// ParseRetained reads once, always or never.
func ParseRetained(s string) (Retained, error) {
	i, err := parseName("retained", s, retainedNames)
	return Retained(i), err
}

// String returns once, always or never.
func (r Retained) String() string {
	return retainedNames.word(int(r), int(r), "Retained")
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

// DSCPNames returns the names that ParseDSCP reads.
func DSCPNames() []string { return slices.Sorted(maps.Keys(dscpNames)) }

const maxDSCP = 63
