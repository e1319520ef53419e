package mapping

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReceiveRule is one entry of receive: it carries the datagrams of groups, or those that
// come to this host itself at a port, to a topic. The tags are those of package configs, and the one place that says what a key is.
type ReceiveRule struct {
	// Name is unique among all rules; Compile makes "" what Heard returns.
	Name string `key:"name" usage:"what the rule is called in the log, the metrics and the status page; empty: its groups, or port and its number"`
	// Groups are all of one family.
	Groups []GroupRange `key:"group" usage:"what to listen to: address:port of a multicast group, a range of them, or a list"`
	// Port is 0 where the rule has groups.
	Port      uint16            `key:"port" default:"0" range:"0..65535" usage:"in place of group: what comes to this host at that UDP port by the interface, unicast and broadcast; 0: nothing" means:"0: only groups|*: what comes to this host at that port by the interface, unicast and broadcast"`
	Interface string            `key:"interface" parse:"interfaces" usage:"where to listen: the name of an interface, or one of its addresses; or a list of these and of patterns such as vlan*"`
	Sources   []netip.Prefix    `key:"source" usage:"whom to listen to: an address, a prefix, or a list; empty: everybody"`
	Merge     time.Duration     `key:"merge" default:"0s" range:"0s..1m" usage:"how long after the first copies of a datagram may come by other senders or interfaces and be left out; 0s: all are published" means:"0s: each datagram is published, whoever sends it|*: of copies that come by several senders or interfaces within this time, the first"`
	When      DatagramCondition `key:"when" usage:"which datagrams: a condition over payload and addresses, as u16@16 == 0x6069 && size > 20; empty: all" means:": every datagram|*: only datagrams that satisfy this"`
	Split     Split             `key:"split" default:"none" oneof:"none|line|nul" usage:"what parts several messages in a datagram: none, line or nul" means:"none: a datagram is one message|line: each line of a datagram is a message|nul: a NUL byte parts the messages of a datagram"`
	Topic     Topic             `key:"topic" usage:"where to publish; {...} is an address, a name or a field of the datagram, or integer arithmetic on them"`
	QoS       byte              `key:"qos" default:"1" range:"0..2" usage:"the quality of service to publish with"`
	Retain    bool              `key:"retain" default:"false" usage:"whether the broker keeps the last message of each topic for whoever subscribes later" means:"true: the broker keeps the last message of each topic|false: the broker keeps nothing"`
	Encoding  Encoding          `key:"payload" default:"raw" usage:"how a datagram's payload becomes the message's: raw, hex, base64 or json" means:"raw: the same bytes|json: an envelope around the payload|*: encoded before publishing"`
	// Metadata and ContentType are of MQTT 5.
	Metadata    bool   `key:"metadata" default:"none" oneof:"none|properties" true:"properties" usage:"whether a message says where its datagram came from, beside the payload, with MQTT 5: none or properties" means:"none: a message is its payload|properties: source, group, interface and received_at are user properties of the message"`
	ContentType string `key:"content_type" usage:"what the payload is said to be, with MQTT 5, such as application/json; empty: nothing" means:": nothing is said of what the payload is|*: said of each message"`
	// DropEmpty matters where Retain is set: a broker takes an empty retained message for
	// the order to forget the topic [MQTT-3.3.1-6].
	DropEmpty bool          `key:"empty" oneof:"publish|drop" true:"drop" usage:"a datagram whose message would be empty: publish or drop; left out: publish, and drop where retain is true" means:"publish: an empty datagram is an empty message|drop: an empty datagram publishes nothing"`
	Every     time.Duration `key:"every" default:"0s" range:"0s..24h" usage:"the least time between two messages of a topic; of the datagrams between, the latest is published; 0s: all are" means:"0s: each datagram is published|*: one message of a topic in this time, the latest"`
	OnChange  bool          `key:"on_change" default:"false" usage:"whether a datagram is left out when its payload is the one that the topic had last" means:"true: only what differs from the last on its topic|false: also what is as the last on its topic"`
	// Expect is looked at once a second.
	Expect time.Duration `key:"expect" default:"0s" range:"0s..168h" usage:"how long a silence may be: while a longer one lasts the rule is degraded; 0s: as long as it likes" means:"0s: silence is no trouble|*: while a longer silence lasts the rule is degraded, and joins once anew"`
	// Common is the Name that the configuration gives the rule, which it has in common with
	// those of its other interfaces. Compile sets it.
	Common string
}

// WordTopic returns where it is told whether a rule with Expect hears something: below the
// status topic. Wildcards in its name are written as _.
func (r *ReceiveRule) WordTopic(status string) string {
	return status + "/rule/" + strings.NewReplacer("+", "_", "#", "_").Replace(r.Name)
}

// A Join is what one socket joins for receive rules. It is comparable: rules with
// equal joins share a socket.
type Join struct {
	Group     netip.AddrPort // an unspecified address: what comes to the host itself at that port, of its family
	Interface string         // as in the rule
	Sources   string         // the addresses it is joined for, sorted, with blanks between; "" is everybody
}

// Host reports whether it is for what comes to the host itself, and no group.
func (j Join) Host() bool { return j.Group.Addr().IsUnspecified() }

// Heard is the group, or port 6454 of IPv4.
func (j Join) Heard() string {
	if j.Host() {
		return "port " + strconv.Itoa(int(j.Group.Port())) + " of " + family(j.Group.Addr().Is6())
	}
	return j.Group.String()
}

// Heard says what the rule listens to: its groups, at most three by name, or port 6454.
func (r *ReceiveRule) Heard() string {
	if r.Port != 0 {
		return "port " + strconv.Itoa(int(r.Port))
	}
	return GroupsText(r.Groups)
}

// Hears reports whether the rule listens to what is sent to an address and port, as far as
// the rule tells: whether a host's address is one of this host is not asked.
func (r *ReceiveRule) Hears(to netip.AddrPort) bool {
	a := to.Addr()
	if r.Port != 0 {
		return r.Port == to.Port() && !a.IsMulticast() && slices.Contains(r.hostFamilies(), a.Is6())
	}
	return slices.ContainsFunc(r.Groups, func(g GroupRange) bool { return g.Contains(to) })
}

// hostFamilies are the families that a rule with a port hears, false for IPv4: both, but for
// one that its interface's address or its sources leave out.
func (r *ReceiveRule) hostFamilies() (ipv6 []bool) {
	on, err := netip.ParseAddr(r.Interface)
	for _, six := range []bool{false, true} {
		sender := len(r.Sources) == 0 || slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Addr().Is6() == six })
		if sender && (err != nil || on.Is6() == six) {
			ipv6 = append(ipv6, six)
		}
	}
	return ipv6
}

func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Joins yields what is to be joined for the rule: each group, and a group that is
// listed twice twice; or its port, in each family.
func (r *ReceiveRule) Joins() iter.Seq[Join] {
	return func(yield func(Join) bool) {
		if r.Port != 0 {
			for _, ipv6 := range r.hostFamilies() {
				if !yield(Join{Group: netip.AddrPortFrom(unspecified(ipv6), r.Port), Interface: r.Interface}) {
					return
				}
			}
			return
		}
		var words []string
		for _, a := range r.JoinedSources() {
			words = append(words, a.String())
		}
		sources := strings.Join(words, " ")
		for _, groups := range r.Groups {
			for g := range groups.All() {
				if !yield(Join{g, r.Interface, sources}) {
					return
				}
			}
		}
	}
}

// JoinedSources returns the addresses that the network is asked for (RFC 4607),
// sorted, if all of the rule's sources are single addresses. Else it returns nil: all
// datagrams are asked for, and those of others are sorted out on arrival. So is what
// comes to the host itself.
func (r *ReceiveRule) JoinedSources() (addrs []netip.Addr) {
	if r.Port != 0 {
		return nil
	}
	for _, p := range r.Sources {
		if !p.IsSingleIP() {
			return nil
		}
		addrs = append(addrs, p.Addr())
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// An Arrival is a datagram as far as a topic template or an envelope asks for it.
type Arrival struct {
	To        netip.AddrPort // where it was sent to: the group, or the address of a host or a broadcast; no zone
	Source    netip.AddrPort // no zone
	Interface string         // name of the interface it arrived on (ReceiveRule.InterfaceText)
	At        time.Time
	captured  []string // of an answer, what the captures of its topic took (AnswerTopic)
}

// InterfaceText returns what {interface} stands for, and an envelope says, where the
// rule's interface has the name that is given. It is the name that the rule has, be
// it an alternative one or a label, so that topics do not depend on how the kernel
// names the interface; but where the rule has an address, there is only that.
func (r *ReceiveRule) InterfaceText(name string) string { return cmp.Or(r.interfaceName(), name) }

// interfaceName returns the interface's name, or "" where the rule names it by
// one of its addresses, or has several, so that only the host can tell.
func (r *ReceiveRule) interfaceName() string {
	if _, err := netip.ParseAddr(r.Interface); err == nil || SeveralInterfaces(r.Interface) {
		return ""
	}
	return r.Interface
}
