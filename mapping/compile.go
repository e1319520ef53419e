package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Fault is one thing wrong with one field of a rule.
type Fault struct {
	Path string // of the field as in the configuration: "send[3].group"
	Err  error
	Hint string // what to do about it; "" where the error says it
}

func (f *Fault) Error() string { return f.Path + ": " + f.Err.Error() }

func (f *Fault) Unwrap() error { return f.Err }

// Compile checks rules as far as that is possible without looking at this host,
// and makes a table of them. Its error joins every *Fault there is.
//
// The rules are copied. A rule without a name is given its filter's text, and
// Binding.IPv6 is set from the group and the source.
func Compile(send []SendRule) (*Table, error) {
	t := &Table{
		send:   slices.Clone(send),
		routes: make([]route, len(send)),
		trie:   newTrie(len(send)),
	}
	c := compilation{
		send:      t.send,
		names:     make(map[string]int, len(send)),
		ports:     make(map[localEnd]int),
		templates: make(map[string]*template),
	}
	for i := range t.send {
		c.rule = i
		c.check(&t.send[i])
		t.routes[i] = c.route(&t.send[i])
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	// Backwards, so that of equal filters the first rule comes first.
	for i := len(t.send) - 1; i >= 0; i-- {
		t.trie.insert(t.send[i].Filter.mqtt, int32(i))
	}
	return t, nil
}

// A compilation gathers the faults of all rules; rule is the one it is at.
type compilation struct {
	send      []SendRule
	rule      int
	names     map[string]int       // rule by name
	ports     map[localEnd]int     // rule by the fixed source port it leaves from
	templates map[string]*template // by text: equal ones are kept once
	faults    []error
}

func (c *compilation) fault(field, hint, format string, args ...any) {
	c.faults = append(c.faults, &Fault{
		Path: path(c.rule, field),
		Err:  fmt.Errorf(format, args...),
		Hint: hint,
	})
}

func path(rule int, field string) string { return "send[" + strconv.Itoa(rule) + "]." + field }

func (c *compilation) check(r *SendRule) {
	if r.Filter.IsZero() {
		c.fault("filter", "name the topics to carry, # for all", "missing")
	}
	if r.QoS > 2 {
		c.fault("qos", "", "%d is not 0, 1 or 2", r.QoS)
	}
	if int(r.Retained) >= len(retainedNames) {
		c.fault("retained", "", "%d is not once, always or never", uint8(r.Retained))
	}
	c.checkName(r)
	c.checkBinding(&r.Binding)
	c.checkSource(r.Binding.Source, r.Binding.Interface)
	if r.Group.IsZero() {
		c.fault("group", "name a multicast address and port, as in 239.1.2.3:5000", "missing")
		return
	}
	c.checkFamily(r)
	c.checkScope(r)
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
		c.ports[end] = c.rule
		return
	}
	if *b != c.send[other].Binding {
		c.fault("source_port", "let both have the same interface, ttl, loopback, dscp and oversize, or another port",
			"%d is the port of send[%d] too, whose datagrams leave in another way, and one port is one socket", b.SourcePort, other)
	}
}

// checkName gives the rule its name, which labels its metrics and logs.
func (c *compilation) checkName(r *SendRule) {
	hint := ""
	if r.Name == "" {
		r.Name = r.Filter.String()
		hint = "a rule without a name has its filter for one; name one of the two"
	}
	if r.Name == "" {
		return // its filter is missing, and that is said
	}
	if !utf8.ValidString(r.Name) || strings.ContainsFunc(r.Name, unicode.IsControl) {
		c.fault("name", "", "%s holds control characters or is not UTF-8, so it cannot label a metric", quote(r.Name))
	}
	if other, taken := c.names[r.Name]; taken {
		c.fault("name", hint, "%s is the name of send[%d] too", quote(r.Name), other)
		return
	}
	c.names[r.Name] = c.rule
}

func (c *compilation) checkBinding(b *Binding) {
	if b.Interface == "" && !b.Source.IsValid() {
		c.fault("source", "name a source, an interface or both; topicast interfaces lists those of this host",
			"neither source nor interface: where datagrams leave from is never guessed")
	}
	if b.TTL == 0 {
		c.fault("ttl", "1 reaches the link the interface is on", "0 would keep the datagrams on this host; it is 1 to 255")
	}
	if b.DSCP > maxDSCP {
		c.fault("dscp", "", "%d is not 0 to %d", b.DSCP, maxDSCP)
	}
}

// checkSource refuses what no datagram can have as its source. bind(2) takes
// each of these without a word, and another address is then the source.
func (c *compilation) checkSource(p netip.Prefix, iface string) {
	if !p.IsValid() {
		return
	}
	a, single := p.Addr(), p.IsSingleIP()
	switch {
	case a.Is4In6():
		c.fault("source", "write "+a.Unmap().String(), "%s is an IPv4 address written as IPv6", a)
	case a.IsMulticast():
		c.fault("source", "a source is an address of this host", "%s is multicast", a)
	case single && a.IsUnspecified():
		c.fault("source", "name an address of this host, or leave source out and name the interface", "%s is no address to send from", a)
	case single && a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		c.fault("source", "a source is an address of this host", "%s is the broadcast address", a)
	case p != p.Masked():
		c.fault("source", fmt.Sprintf("write %s for this address, %s for any address of the network", a, p.Masked()),
			"%s is an address and a network at once", p)
	case p.Bits() == 0 && iface == "":
		c.fault("source", "name a network of this host, or an interface", "every address lies in %s, so it picks none", p)
	}
}

// checkFamily finds out whether the rule is IPv4 or IPv6 and whether all its
// parts agree.
func (c *compilation) checkFamily(r *SendRule) {
	ipv6, known := r.Group.Family()
	source := r.Binding.Source
	switch {
	case !known && !source.IsValid():
		c.fault("group", "name a source, which tells IPv4 from IPv6; or write [{"+r.Group.names[0]+"}]:port for IPv6",
			"%s may be IPv4 or IPv6, and no source tells which", r.Group)
	case !known:
		ipv6 = source.Addr().Is6()
	case source.IsValid() && !source.Addr().Is4In6() && source.Addr().Is6() != ipv6:
		c.fault("source", "source and group are of one family", "%s is %s, but the group %s is %s",
			prefixText(source), family(!ipv6), r.Group, family(ipv6))
	}
	r.Binding.IPv6 = ipv6
}

func family(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// prefixText writes a single address without its length.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// checkScope asks for an interface where every interface has the group of this
// name: scope 1 and 2 of IPv6 (RFC 4007 section 4).
func (c *compilation) checkScope(r *SendRule) {
	if r.Group.ipv6 && r.Group.linkLocal() && r.Binding.Interface == "" {
		c.fault("interface", "", "the group %s is another one on each interface, so the rule must name the interface", r.Group)
	}
}

// route compiles what Lookup needs. The rule may have faults.
func (c *compilation) route(r *SendRule) route {
	if r.Group.IsZero() || r.Filter.IsZero() {
		return route{}
	}
	if group, fixed := r.Group.Fixed(); fixed {
		return route{group: group}
	}
	if known := c.templates[r.Group.text]; known != nil {
		r.Group.template = known
	} else {
		c.templates[r.Group.text] = r.Group.template
	}
	rt := route{template: r.Group.template, ipv6: r.Binding.IPv6}
	has := r.Filter.captures()
	for _, name := range r.Group.names {
		i := slices.IndexFunc(has, func(c capture) bool { return c.name == name })
		if i < 0 {
			c.missingCapture(r.Filter, name)
			continue
		}
		rt.captures = append(rt.captures, has[i])
	}
	return rt
}

func (c *compilation) missingCapture(f Filter, name string) {
	names := f.Captures()
	hint := "captures of the filter: {" + strings.Join(names, "}, {") + "}"
	if len(names) == 0 {
		hint = "write {" + name + "} in place of a level of the filter"
	} else if meant := near(name, names); meant != "" {
		hint = "did you mean {" + meant + "}"
	}
	c.fault("group", hint, "{%s} is not a capture of the filter %s", name, f)
}
