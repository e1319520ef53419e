package mapping

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// checkSend gathers the faults of a send rule, and fills in what follows from
// its other fields.
func (c *compilation) checkSend(r *SendRule) {
	if r.Filter.IsZero() {
		c.fault("filter", "name the topics to carry, # for all", "missing")
	}
	c.checkQoS(r.QoS)
	c.checkShare(r)
	if int(r.Retained) >= len(retainedNames) {
		c.fault("retained", "", "%d is not %v", uint8(r.Retained), retainedNames)
	}
	c.checkOnDown(r)
	c.checkRhythm(r)
	c.checkTargetFields(r)
	hint := ""
	if r.Name == "" {
		r.Name = r.Filter.String()
		hint = "a rule without a name has its filter for one; name one of the two"
	}
	c.checkName(r.Name, hint)
	r.Common = r.Name
	c.checkWhen(r)
	c.checkBinding(&r.Binding)
	c.checkLocal(r.Binding.Source, r.Binding.Interface)
	switch {
	case r.To().IsZero():
		c.fault("group", "name a multicast address and port, as in 239.1.2.3:5000; or, in place of group, a host", "missing")
		return
	case !r.Group.IsZero() && !r.Host.IsZero():
		c.fault("host", "make two rules of it", "a rule sends to a group or to a host, and this one has both")
		return
	}
	c.checkFamily(r)
	c.checkHost(r)
	c.checkScope(r)
	c.checkAnswer(r)
	c.checkPort(&r.Binding)
}

// localEnd is what only one socket can be bound to.
type localEnd struct {
	source netip.Prefix
	iface  string // where there is no source
	ipv6   bool
	port   uint16
}

// checkPort refuses two sockets on one fixed port: the second could not be
// opened, and only at run time would that show.
func (c *compilation) checkPort(b *Binding) {
	if b.SourcePort == 0 {
		return
	}
	end := localEnd{source: b.Source, ipv6: b.IPv6, port: b.SourcePort}
	if !b.Source.IsValid() {
		end.iface = b.Interface
	}
	other, taken := c.ports[end]
	if !taken {
		c.ports[end] = c.at.rule
		return
	}
	if of := c.send[other].Binding; of.Answers != b.Answers {
		c.fault("source_port", "give it another port, or leave source_port out",
			"%d is the port of send[%d] too, and a rule with answer has a socket of its own, so that no answer is taken for another rule's", b.SourcePort, other)
	} else if *b != of {
		c.fault("source_port", "let both have the same interface, ttl, loopback, dscp and oversize, and both send to groups or both to hosts; or another port",
			"%d is the port of send[%d] too, whose datagrams leave in another way, and one port is one socket", b.SourcePort, other)
	}
}

func (c *compilation) checkBinding(b *Binding) {
	if b.Interface == "" && !b.Source.IsValid() {
		c.fault("source", "name a source, an interface or both; topicast interfaces lists those of this host",
			"neither source nor interface: where datagrams leave from is never guessed")
	}
	c.checkInterfaces(b.Interface, func(field, name string) { c.checkOut(b, field, name) })
	if b.TTL == 0 {
		c.fault("ttl", "1 reaches the link the interface is on", "0 would keep the datagrams on this host; it is 1 to 255")
	}
	if b.DSCP > maxDSCP {
		c.fault("dscp", "", "%d is not 0 to %d", b.DSCP, maxDSCP)
	}
}

// checkOut refuses an address in the place of the interface to leave by: no
// interface would ever have that name, and the rule be pending for good.
func (c *compilation) checkOut(b *Binding, field, name string) {
	if strings.Count(name, ".") != 3 && strings.Count(name, ":") < 2 {
		return // a name, as nearly all are; to parse each would allocate an error
	}
	p, err := netip.ParsePrefix(name)
	if a, single := netip.ParseAddr(name); single == nil {
		if a.Zone() != "" {
			c.fault(field, "name "+a.Zone()+" as the interface, and the address without it as the source", "%s is an address with a zone", a)
			return
		}
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return // a name
	}
	is, hint := "a network", "name "+name+" as the source: the interface is then the one that has it"
	if p.IsSingleIP() {
		is = "an address"
	}
	if b.Source.IsValid() {
		hint = "leave the interface out: it is the one that has the source"
	}
	c.fault(field, hint, "%s is %s, and not the name of an interface", name, is)
}

// checkLocal looks at a source of ours. bind(2) takes each that is refused here
// without a word, and another address is then the source.
func (c *compilation) checkLocal(p netip.Prefix, iface string) {
	if !p.IsValid() {
		return
	}
	c.checkSource("source", p, "a source is an address of this host",
		"name an address of this host, or leave source out and name the interface")
	if p == p.Masked() && p.Bits() == 0 && iface == "" {
		c.fault("source", "name a network of this host, or an interface", "every address lies in %s, so it picks none", p)
	}
}

// checkFamily finds out whether the rule is IPv4 or IPv6 and whether all its
// parts agree.
func (c *compilation) checkFamily(r *SendRule) {
	to := r.To()
	ipv6, known := to.Family()
	r.Binding.Host = to.kind == hostTarget
	source := r.Binding.Source
	switch {
	case !known && !source.IsValid():
		c.fault(to.kind.String(), "name a source, which tells IPv4 from IPv6; or write [{"+to.wholeText()+"}]:port for IPv6",
			"%s may be IPv4 or IPv6, and no source tells which", to)
	case !known:
		ipv6 = source.Addr().Is6()
	case source.IsValid() && !source.Addr().Is4In6() && source.Addr().Is6() != ipv6:
		c.fault("source", fmt.Sprintf("source and %s are of one family", to.kind), "%s is %s, but the %s %s is %s",
			PrefixText(source), family(!ipv6), to.kind, to, family(ipv6))
	}
	r.Binding.IPv6 = ipv6
}

// checkScope asks for an interface where every interface has the group of this
// name: scope 1 and 2 of IPv6 (RFC 4007 section 4).
func (c *compilation) checkScope(r *SendRule) {
	if to := r.To(); r.Binding.Interface == "" && to.ipv6 && (to.linkLocal() || to.linkLocalHost()) {
		c.fault("interface", "", "the %s %s is another one on each interface, so the rule must name the interface", to.kind, to)
	}
}

// checkHost looks at what is so of hosts alone.
func (c *compilation) checkHost(r *SendRule) {
	if r.Host.IsZero() {
		return
	}
	if !r.Binding.Loopback {
		c.fault("loopback", "leave it out", "loopback is about groups, and the rule sends to a host")
	}
	if r.Members {
		c.fault("members", "leave it out", "hosts join groups, and the rule sends to a host")
	}
	source := r.Binding.Source
	if to, fixed := r.Host.to().Fixed(); fixed && to.Addr().IsLoopback() && source.IsValid() && !source.Addr().IsLoopback() {
		c.fault("host", "name the address of the device; or 127.0.0.1 as the source too", "%s is this host itself, and what leaves from %s does not get there", to.Addr(), PrefixText(source))
	}
}

// route compiles what Lookup needs. The rule may have faults.
func (c *compilation) route(r *SendRule) route {
	to := r.To()
	if to.IsZero() || r.Filter.IsZero() {
		return route{}
	}
	if group, fixed := to.Fixed(); fixed {
		return route{group: group}
	}
	if known := c.templates[to.text]; known != nil && known.kind == to.kind {
		to.template = known
		if to.kind == hostTarget {
			one := to // &to would have every rule allocate
			r.Host.template = &one
		} else {
			r.Group = to
		}
	} else {
		c.templates[to.text] = to.template
	}
	rt := route{template: to.template, ipv6: r.Binding.IPv6}
	has := r.Filter.captures()
	for _, name := range to.names {
		i := slices.IndexFunc(has, func(c capture) bool { return c.name == name })
		if i < 0 {
			c.missingCapture(to.kind.String(), r.Filter, name)
			continue
		}
		rt.captures = append(rt.captures, has[i])
	}
	return rt
}

// checkWhen asks for the captures that the rule's condition is about.
func (c *compilation) checkWhen(r *SendRule) {
	if r.When.IsZero() || r.Filter.IsZero() {
		return
	}
	has := r.Filter.Captures()
	for _, name := range r.When.names {
		if !slices.Contains(has, name) {
			c.missingCapture("when", r.Filter, name)
		}
	}
}

func (c *compilation) missingCapture(field string, f Filter, name string) {
	names := f.Captures()
	hint := "captures of the filter: {" + strings.Join(names, "}, {") + "}"
	if len(names) == 0 {
		hint = "write {" + name + "} in place of a level of the filter"
	} else if meant := Near(name, names); meant != "" {
		hint = "did you mean {" + meant + "}?"
	}
	c.fault(field, hint, "{%s} is not a capture of the filter %s", name, f)
}
