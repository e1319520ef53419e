package mapping

import "net/netip"

// SendRule is one entry of send: it carries the messages of a filter to a group.
type SendRule struct {
	Name     string   // unique among the send rules; the filter's text where the user gave none
	Filter   Filter   // which topics
	QoS      byte     // 0, 1 or 2: the quality of service to subscribe with
	Group    Group    // where to; may depend on the filter's captures
	Binding  Binding  // from where
	Retained Retained // what becomes of retained messages
	Payload  Payload  // how the message's payload becomes the datagram's
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
	IPv6       bool         // the address family of the groups
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
