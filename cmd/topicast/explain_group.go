package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// question is what is asked about the datagrams of a group, or those for a host.
type question struct {
	group  netip.AddrPort // where they are sent to
	source netip.AddrPort // not valid: from anybody
	port   bool           // the source's port is known
	sample sample
}

// parseQuestion tells a group, or the address and port of a host, from a topic. A topic that
// looks like one of these is one that nobody has.
func parseQuestion(what, from string) (q question, isGroup bool, err error) {
	if to, err := netip.ParseAddrPort(what); err == nil && !to.Addr().IsMulticast() && !to.Addr().IsUnspecified() && to.Addr().Zone() == "" && to.Port() != 0 {
		q.group = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
		q, err = q.sentBy(from)
		return q, true, err
	}
	template, zone, err := parseGroup(what)
	if err != nil {
		if from != "" {
			if !meansGroup(what) {
				err = usageError(fmt.Errorf("--from is for the datagrams of a group, and %q is none", what))
			}
			return q, false, err
		}
		if err := mapping.CheckTopic(what); err != nil {
			if strings.ContainsAny(what, "+#") {
				err = withHint(err, "name one topic as it is published; topicast check lists the rules with their filters")
			}
			return q, false, usageError(err)
		}
		return q, false, nil
	}
	if zone != "" {
		return q, true, usageError(fmt.Errorf("each rule says on which interface it listens; leave out %%%s", zone))
	}
	q.group, _ = template.Fixed()
	q, err = q.sentBy(from)
	return q, true, err
}

// sentBy is the question about the datagrams of one sender, "" for any.
func (q question) sentBy(from string) (question, error) {
	if from == "" {
		return q, nil
	}
	var err error
	if q.source, q.port, err = parseFrom(from); err != nil {
		return q, usageError(err)
	}
	if q.source.Addr().Is4() != q.group.Addr().Is4() {
		return q, usageError(fmt.Errorf("--from %s is not of the address family of %s", from, q.group))
	}
	return q, nil
}

// meansGroup reports whether a text that is no group may have been meant as one. It may
// be a topic just as well: {group} makes such.
func meansGroup(text string) bool {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.IsMulticast()
	}
	host, _, _ := strings.Cut(text, "/")
	if at, err := netip.ParseAddrPort(host); err == nil {
		host = at.Addr().String()
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsMulticast()
}

// parseFrom reads the address of a sender, with or without its port.
func parseFrom(text string) (source netip.AddrPort, port bool, err error) {
	if source, err = netip.ParseAddrPort(text); err == nil {
		port = true
	} else if a, plain := netip.ParseAddr(text); plain == nil {
		source = netip.AddrPortFrom(a, 0)
	} else {
		return source, false, fmt.Errorf("--from %q: it is an address such as 192.0.2.7, or one with a port such as 192.0.2.7:1234", text)
	}
	if a := source.Addr(); a.Zone() != "" || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
		return source, false, fmt.Errorf("--from %s: that is no address of a sender", text)
	}
	return source, port, nil
}

// explainGroup tells what becomes of the datagrams of a group, or of those for a host, and which rules
// send such.
func explainGroup(out io.Writer, q question, t *mapping.Table, h *host) error {
	err := explainGroupHeard(out, q, t, h)
	if q.source.IsValid() || q.sample.given { // it is about what comes
		return err
	}
	if explainSenders(out, q.group, t, h) {
		return nil
	}
	return err
}

// explainGroupHeard tells what becomes of the datagrams.
func explainGroupHeard(out io.Writer, q question, t *mapping.Table, h *host) error {
	rules := t.Receive()
	var heard []int
	for i, r := range rules {
		if r.Hears(q.group) {
			heard = append(heard, i)
		}
	}
	if len(heard) == 0 {
		explainUnheard(out, q.group, t.Configured().Receive())
		return errSaid
	}
	whose := ""
	if q.source.IsValid() {
		whose = " from " + q.senderText()
	}
	var details bytes.Buffer
	var takers []int // their places
	for _, i := range heard {
		fmt.Fprintln(&details)
		if explainHeard(&details, q, t.ReceivePlace(i), rules[i], t.ReceiveLoops(i), h) {
			takers = append(takers, t.ReceivePlace(i))
		}
	}
	taken := distinct(len(takers), func(i int) int { return takers[i] })
	fmt.Fprintf(out, "%s%s is heard by %s of %s\n", q.group, whose, noneOr(taken), count(len(t.Configured().Receive()), "receive rule"))
	_, _ = details.WriteTo(out) // the output is watched
	if taken == 0 {
		return errSaid
	}
	return nil
}

// noneOr is a number as it stands in a sentence.
func noneOr(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

func inRange(g mapping.GroupRange, group netip.AddrPort) bool {
	a := group.Addr()
	return g.Port == group.Port() && g.First.Compare(a) <= 0 && a.Compare(g.Last) <= 0
}

func (q question) senderText() string {
	if q.port {
		return q.source.String()
	}
	return q.source.Addr().String()
}

// explainHeard tells what one rule makes of the datagrams, and whether any.
func explainHeard(out io.Writer, q question, i int, r mapping.ReceiveRule, loops bool, h *host) bool {
	fmt.Fprintf(out, "%s: %s\n", ruleTitle("receive", i, r.Name), heardText(r))
	line := lines(out)
	h.explainDisabled(line, r.Name)
	e := h.listener(r)
	lost := func(format string, args ...any) bool {
		explainKeys(line, receiveKeys("interface", "source"), &r, explainListener(line, r, e))
		line("drop", format, args...)
		return false
	}
	if r.Port != 0 && e.on.Index > 0 && !isOf(q.group.Addr(), e.on) {
		return lost("%s is no address of %s, nor the broadcast address of one: what comes for it there is not for this host", q.group.Addr(), e.on.Name)
	}
	if q.source.IsValid() && len(r.Sources) > 0 {
		a := q.source.Addr()
		if !slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return lost("source: %s is none of them", a)
		}
	}
	on := r.InterfaceText(cmp.Or(e.on.Name, r.Interface))
	published := true
	topic, err := q.topic(r, on)
	if err != nil && !q.sample.given {
		return lost("%s", topicLoss(err))
	}
	by := explainListener(line, r, e)
	by["name"], by["group"], by["port"] = nil, nil, nil // in the title
	by["topic"] = func() {
		if q.sample.given {
			published = q.explainMessages(line, r, on)
		} else {
			line("topic", "%s", topic)
		}
	}
	explainMessage(line, by, r, loops)
	return published
}

// heardText is "groups 239.1.2.3:5000", or "port 6454 of this host".
func heardText(r mapping.ReceiveRule) string {
	if r.Port != 0 {
		return r.Heard() + " of this host"
	}
	return "groups " + r.Heard()
}

// isOf reports whether what is sent to an address and comes by an interface is for this host.
func isOf(to netip.Addr, on multicast.Interface) bool {
	if to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	return slices.ContainsFunc(on.Addresses, func(a multicast.Address) bool {
		return a.Prefix.Addr() == to || a.Broadcast == to || on.Loopback && to.Is4() && a.Prefix.Contains(to)
	})
}

// receiveKeys are the keys of a receive rule that have one of these names.
func receiveKeys(names ...string) []configs.Key {
	return slices.DeleteFunc(configs.ReceiveKeys(), func(k configs.Key) bool { return !slices.Contains(names, k.Name) })
}

// explainPublisher tells where a rule hears what it may publish on a topic.
func explainPublisher(out io.Writer, i int, r mapping.ReceiveRule, loops bool, h *host) {
	fmt.Fprintf(out, "%s can publish it: topic %s\n", ruleTitle("receive", i, r.Name), r.Topic)
	line := lines(out)
	h.explainDisabled(line, r.Name)
	by := explainListener(line, r, h.listener(r))
	by["name"], by["topic"] = nil, nil // in the title
	if r.Port != 0 {
		by["group"] = nil
	} else {
		by["port"] = nil
	}
	explainMessage(line, by, r, loops)
}

// explainListener tells where a rule listens on this host, and to whom.
func explainListener(line func(key, format string, args ...any), r mapping.ReceiveRule, e listener) special {
	return special{
		"interface": func() {
			if e.on.Index > 0 {
				line("interface", "%s (index %d)", e.on.Name, e.on.Index)
			} else {
				line("interface", "%s", r.Interface)
			}
			if e.err != nil {
				line("pending", "%v", e.err)
			}
		},
		"source": func() {
			switch {
			case len(r.Sources) == 0:
				line("source", "anybody")
			case len(r.JoinedSources()) > 0:
				line("source", "%s: the network is asked for these alone", sourceList(r.Sources))
			default:
				line("source", "%s: all datagrams arrive, the others are dropped here", sourceList(r.Sources))
			}
		},
	}
}

// explainMessage tells how a rule publishes.
func explainMessage(line func(key, format string, args ...any), by special, r mapping.ReceiveRule, loops bool) {
	switch {
	case !r.Encoding.Empties():
		by["empty"] = func() { line("empty", "no message is: an envelope holds more than the payload") }
	case r.Retain && !r.DropEmpty:
		by["empty"] = func() { line("empty", "publish: an empty datagram deletes what the broker keeps") }
	}
	explainKeys(line, configs.ReceiveKeys(), &r, by)
	if loops {
		line("loops", "what it publishes can come back to it by a send rule: see loops in the configuration")
	}
}

// topic is where a rule publishes the datagrams, or its template as far as that
// depends on a sender who was not named.
func (q question) topic(r mapping.ReceiveRule, on string) (string, error) {
	give := func(source netip.AddrPort) (string, error) {
		a := q.arrival(source, on)
		topic, err := r.Topic.Append(nil, &a, r.Name)
		return string(topic), err
	}
	if r.Topic.VariesByPayload() {
		return fmt.Sprintf("%s (--payload TEXT tells the rest)", r.Topic), nil
	}
	one, other, missing := q.senders()
	topic, err := give(one)
	if second, e := give(other); err != nil || e != nil || topic != second {
		if err != nil && e != nil {
			return "", err
		}
		return fmt.Sprintf("%s (%s)", r.Topic, missing), nil
	}
	return topic, nil
}

// arrival is the datagram as one sender's.
func (q question) arrival(source netip.AddrPort, on string) mapping.Arrival {
	return mapping.Arrival{To: q.group, Source: source, Interface: on, At: time.Now()}
}

// topicLoss is the reason for which a datagram has no topic, and why.
func topicLoss(err error) string {
	if e, ok := errors.AsType[*mapping.TopicError](err); ok && e.Missing {
		return "field: " + err.Error()
	}
	return "bad_topic: " + err.Error()
}

// senders are two that the question may be about: what both give alike does not depend on what
// is not known of the sender. missing says how it could be.
func (q question) senders() (one, other netip.AddrPort, missing string) {
	if q.port {
		return q.source, q.source, ""
	}
	if !q.source.IsValid() {
		one, other = strangers(q.group.Addr().Is6())
		return one, other, "--from ADDRESS tells the rest"
	}
	return netip.AddrPortFrom(q.source.Addr(), 1), netip.AddrPortFrom(q.source.Addr(), 2), "--from ADDRESS:PORT tells the rest"
}

// strangers are two senders that have nothing in common.
func strangers(ipv6 bool) (one, other netip.AddrPort) {
	if ipv6 {
		return netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[fe80::ffff:2]:2")
	}
	return netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("198.51.100.254:2")
}

// explainUnheard tells what a group that no rule listens to comes near to.
func explainUnheard(out io.Writer, group netip.AddrPort, rules []mapping.ReceiveRule) {
	fmt.Fprintf(out, "%s is heard by none of %s\n", group, count(len(rules), "receive rule"))
	const most = 5
	t := &table{}
	for _, port := range []bool{true, false} { // first those with the same address
		for i, r := range rules {
			if why, near := missesHost(r, group); near && (r.Port == group.Port()) != port && len(*t) < most {
				t.row("  "+ruleTitle("receive", i, r.Name), r.Heard(), why)
			}
			for _, g := range r.Groups {
				why, near := misses(g, group)
				if near && strings.HasPrefix(why, "the port") == port && len(*t) < most {
					t.row("  "+ruleTitle("receive", i, r.Name), g, why)
				}
			}
		}
	}
	if len(*t) == 0 {
		return
	}
	fmt.Fprint(out, "\nnearest:\n")
	_ = t.print(out) // the output is watched
}

// missesHost says where the address and port of a host part from a rule, if only in one thing.
func missesHost(r mapping.ReceiveRule, to netip.AddrPort) (why string, near bool) {
	switch {
	case r.Port == 0 || to.Addr().IsMulticast() && r.Port != to.Port():
		return "", false
	case to.Addr().IsMulticast():
		return fmt.Sprintf("%s is a group, and the rule hears what comes to this host itself", to.Addr()), true
	}
	return fmt.Sprintf("the port is %d, not %d", r.Port, to.Port()), true
}

// misses says where a group parts from a range, if only in one thing.
func misses(g mapping.GroupRange, group netip.AddrPort) (why string, near bool) {
	switch a := group.Addr(); {
	case inRange(mapping.GroupRange{First: g.First, Last: g.Last, Port: group.Port()}, group):
		return fmt.Sprintf("the port is %d, not %d", g.Port, group.Port()), true
	case g.Port != group.Port() || g.First.Is4() != a.Is4():
		return "", false
	case g.First == g.Last:
		return fmt.Sprintf("the address is %s, not %s", g.First, a), true
	}
	return fmt.Sprintf("%s is not between %s and %s", group.Addr(), g.First, g.Last), true
}
