package mapping

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxContentType bounds a content type in bytes: each message bears it.
	maxContentType = 255
	// maxGroups is how many groups a receive rule may have, maxAllGroups how many
	// all of them: each costs a socket and a membership, and hosts limit both.
	maxGroups    = 4096
	maxAllGroups = 16384
)

// checkReceive gathers the faults of a receive rule, and fills in what follows
// from its other fields.
func (c *compilation) checkReceive(r *ReceiveRule) {
	r.Groups, r.Sources = slices.Clone(r.Groups), slices.Clone(r.Sources)
	c.checkQoS(r.QoS)
	if int(r.Encoding) >= len(encodingNames) {
		c.fault("payload", "", "%d is not %v", uint8(r.Encoding), encodingNames)
	}
	if len(r.ContentType) > maxContentType || !utf8.ValidString(r.ContentType) || r.ContentType != "" && checkText(r.ContentType) != nil {
		c.fault("content_type", "", "%s is no text that MQTT can write, of at most %d bytes", quote(r.ContentType), maxContentType)
	}
	if r.Every < 0 {
		c.fault("every", "0s publishes every datagram", "%s is less than nothing", r.Every)
	}
	if r.Expect > 0 {
		word := r.WordTopic("")
		if other, taken := c.words[word]; taken {
			c.fault("name", "give one of them another name", "expect tells of %s and of %s on the same topic below the status topic, %s", quote(r.Name), other, word[1:])
		} else {
			c.words[word] = c.at
		}
	}
	if r.Expect < 0 {
		c.fault("expect", "0s takes any silence", "%s is less than nothing", r.Expect)
	}
	if r.Merge < 0 {
		c.fault("merge", "0s publishes all that comes", "%s is less than nothing", r.Merge)
	}
	ipv6, known := false, false
	if r.Port != 0 {
		c.checkHostPort(r)
	} else {
		ipv6, known = c.checkGroups(r.Groups)
	}
	on := c.checkInterfaces(r.Interface, func(field, name string) { c.checkInterface(field, name, ipv6, known) })
	c.addSockets(r, on)
	for i, p := range r.Sources {
		c.checkSender(item("source", i, len(r.Sources)), p, ipv6, known)
	}
	hint := ""
	if r.Name == "" {
		r.Name = r.Heard()
		hint = "a rule without a name has its groups, or its port, for one; name one of the two"
	}
	c.checkName(r.Name, hint)
	r.Common = r.Name
	c.checkTopic(r)
}

// item is the name of a field's i-th value; the field's own where it is the only
// one, as it may not be written as a list.
func item(field string, i, of int) string {
	if of == 1 {
		return field
	}
	return field + "[" + strconv.Itoa(i) + "]"
}

// checkGroups returns the family of the first group, and whether there is one.
func (c *compilation) checkGroups(groups []GroupRange) (ipv6, known bool) {
	if len(groups) == 0 {
		c.fault("group", "name a multicast address and port, as in 239.1.2.3:5000; or, in place of group, port: what comes to this host itself", "missing")
		return false, false
	}
	count := 0
	for i, g := range groups {
		field := item("group", i, len(groups))
		if err := g.check(); err != nil {
			c.fault(field, "", "%w", err)
			continue
		}
		if !known {
			ipv6, known = g.First.Is6(), true
		} else if g.First.Is6() != ipv6 {
			c.fault(field, "make two rules of it", "%s is %s, but a group before it is %s, and a rule has one family", g, family(!ipv6), family(ipv6))
		}
		count += min(g.Len(), maxAllGroups+1)
	}
	if count > maxGroups {
		c.fault("group", "each group takes a socket and a membership; name those that are in use",
			"%s groups, and a rule has at most %d", atLeast(count), maxGroups)
		return ipv6, known
	}
	return ipv6, known
}

// addSockets counts the groups of a rule, or the sockets of its port, on each of its interfaces.
func (c *compilation) addSockets(r *ReceiveRule, interfaces int) {
	field, count := "group", r.groupCount()
	if r.Port != 0 {
		field, count = "port", len(r.hostFamilies())
	} else if count > maxGroups {
		return // which is a fault of its own
	}
	count *= interfaces
	if before := c.groups; before <= maxAllGroups && before+count > maxAllGroups {
		c.fault(field, "each group takes a socket and a membership; name those that are in use",
			"%d groups with those of the rules before it, and all rules have at most %d", before+count, maxAllGroups)
	}
	c.groups += count
}

// checkHostPort looks at a rule for what comes to the host itself.
func (c *compilation) checkHostPort(r *ReceiveRule) {
	if len(r.Groups) > 0 {
		c.fault("port", "make two rules of it; the port of a group belongs to group",
			"a rule listens to groups or to what comes to this host itself, and this one has both group and port")
	}
	if r.Topic.uses(datumGroup) {
		c.fault("topic", "write {destination}, the address that a datagram was sent to", "%s has {group}, and what comes to this host itself has none", r.Topic)
	}
	families := r.hostFamilies()
	if len(families) == 0 {
		on, _ := netip.ParseAddr(r.Interface)
		c.fault("source", "name the interface, or an "+family(!on.Is6())+" address of it",
			"all sources are %s, but the interface's address %s is %s", family(!on.Is6()), on, family(on.Is6()))
	}
}

// atLeast writes a count of groups, of which one above the limit of all is not exact.
func atLeast(count int) string {
	if count > maxAllGroups {
		return fmt.Sprintf("more than %d", maxAllGroups)
	}
	return strconv.Itoa(count)
}

// checkInterface refuses an address that no interface can have for these groups.
// Whether there is an interface of the name is for the host to say.
func (c *compilation) checkInterface(field, iface string, ipv6, known bool) {
	if iface == "" {
		c.fault(field, "name the interface to join on, or an address of it; topicast interfaces lists those of this host",
			"missing: where datagrams are heard is never guessed")
		return
	}
	if p, err := netip.ParsePrefix(iface); err == nil {
		c.fault(field, "name the interface, or one address of it", "%s is a network", p)
		return
	}
	a, err := netip.ParseAddr(iface)
	if err != nil {
		return // a name
	}
	const isA = "name the interface, or an address of it"
	switch {
	case a.Zone() != "":
		c.fault(field, "write "+a.Zone()+", if that is its name, or the address without the zone", "%s is an address with a zone", a)
	case a.Is4In6():
		c.fault(field, "write "+a.Unmap().String(), "%s is an IPv4 address written as IPv6", a)
	case a.IsMulticast() || a.IsUnspecified() || a == broadcast:
		c.fault(field, isA, "%s is no interface's address", a)
	case known && a.Is6() != ipv6:
		c.fault(field, "name the interface, or an "+family(ipv6)+" address of it", "%s is %s, but the groups are %s", a, family(!ipv6), family(ipv6))
	}
}

// checkSender looks at one of the sources that a rule takes datagrams from.
func (c *compilation) checkSender(field string, p netip.Prefix, ipv6, known bool) {
	if !p.IsValid() {
		c.fault(field, "leave source out to take the datagrams of anybody", "has no address")
		return
	}
	c.checkSource(field, p, "a source is the address of a sender", "leave source out to take the datagrams of anybody")
	if known && !p.Addr().Is4In6() && p.Addr().Is6() != ipv6 {
		c.fault(field, "sources and groups are of one family", "%s is %s, but the groups are %s", PrefixText(p), family(!ipv6), family(ipv6))
	}
}

// checkTopic tells the rule's topic the rule's name, and looks at what then is
// known of it.
func (c *compilation) checkTopic(r *ReceiveRule) {
	if r.Topic.IsZero() {
		c.fault("topic", "name the topic to publish on, as in meters/{source}", "missing")
		return
	}
	r.Topic = r.Topic.named(r.Name)
	iface := r.interfaceName()
	filled := r.Topic.fill(iface)
	shown := quote(replaceUnknowns(filled, "…"))
	switch err := checkFilled(filled); {
	case err != nil:
		c.fault("topic", "", "%s is %s: %w", r.Topic, shown, err)
	case filled[0] == '$':
		c.fault("topic", "begin it with another character", "%s begins with $, and such topics are the broker's own (MQTT 3.1.1, 4.7.2)", shown)
	case r.Topic.uses(datumInterface) && strings.Contains(iface, "/"):
		c.fault("topic", "write the name itself in place of {interface}", "%s: the interface %s has a / in its name, which would add a level", r.Topic, quote(iface))
	}
}
