package mapping

import (
	"net/netip"
	"time"
)

// ReceiveRule is one entry of receive: it carries the datagrams of groups to a
// topic.
type ReceiveRule struct {
	Name      string         // unique among all rules; Compile makes "" the text of the groups
	Groups    []GroupRange   // which groups, all of one family
	Interface string         // name of the interface to join on, or one of its addresses
	Sources   []netip.Prefix // only from these; none: from anybody
	Topic     Topic          // where to; may depend on the datagram's addresses
	QoS       byte           // 0, 1 or 2: the quality of service to publish with
	Retain    bool           // whether the broker keeps the last message of each topic
	Encoding  Encoding       // how the datagram's payload becomes the message's
	Every     time.Duration  // at most one message per topic in this time, the latest wins; 0: all
	OnChange  bool           // only when the payload differs from the last one published on the topic
}

// An Arrival is a datagram as far as a topic template or an envelope asks for it.
type Arrival struct {
	Group, Source netip.AddrPort // no zone
	Interface     string         // name of the interface it arrived on
	At            time.Time
}

// interfaceName returns the interface's name, or "" where the rule names it by
// one of its addresses, so that only the host can tell.
func (r *ReceiveRule) interfaceName() string {
	if _, err := netip.ParseAddr(r.Interface); err == nil {
		return ""
	}
	return r.Interface
}
