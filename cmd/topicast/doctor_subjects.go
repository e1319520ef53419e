package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"topicast/bridge/doctor"
	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// What doctor looks at: rules as they are on this host now, or a group without one.

// mostGroups is how many groups of a rule are looked at, where none is asked for.
const mostGroups = 4

// ofRules are the rules that are asked about, and how the bridge that runs them is asked.
func (o *doctorOptions) ofRules(ctx context.Context, what string, h *host) (subjects []*doctor.Subject, look doctor.Options, err error) {
	var q question
	var isGroup bool
	if what != "" {
		if q, isGroup, err = parseQuestion(what, ""); err != nil {
			return nil, look, err
		}
	}
	cfg, err := loadUntil(ctx, o.config, nil)
	if err != nil {
		if isGroup && o.config == "" {
			return nil, look, withHint(err, "without a configuration: topicast doctor "+shellWord(what)+" --interface NAME")
		}
		return nil, look, err
	}
	h.know(cfg)
	look = doctor.Options{Window: o.window, Asked: true, File: cfg.File}
	look.At, look.Ask = asking(ctx, cfg, o.config)
	switch {
	case isGroup:
		subjects = h.withGroup(cfg.Table, q.group)
	case what != "":
		subjects = h.withTopic(cfg.Table, what)
	default:
		subjects = h.all(cfg.Table, o.rule)
		if len(subjects) == 0 && o.rule != "" {
			return nil, look, usageError(unknownRule(cfg, o.rule))
		}
	}
	return subjects, look, nil
}

func unknownRule(cfg *configs.Config, name string) error {
	err := fmt.Errorf("--rule %s: no rule has this name", shellWord(name))
	names := ruleNames(cfg.Table)
	if near := mapping.Near(name, names); near != "" {
		return withHint(err, "did you mean "+shellWord(near)+"?")
	}
	return withHint(err, "topicast check lists the rules with their names")
}

func ruleNames(t *mapping.Table) (names []string) {
	for _, r := range t.Send() {
		names = append(names, r.Common)
	}
	for _, r := range t.Receive() {
		names = append(names, r.Common)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// all are the rules with a name, "" for every one.
func (h *host) all(t *mapping.Table, name string) (subjects []*doctor.Subject) {
	for i, r := range t.Send() {
		if name == "" || name == r.Name || name == r.Common {
			to, exact := r.To().Fixed()
			subjects = append(subjects, h.sending(t, i, to, exact))
		}
	}
	for i, r := range t.Receive() {
		if name == "" || name == r.Name || name == r.Common {
			subjects = append(subjects, h.hearingAll(t, i)...)
		}
	}
	return subjects
}

// hearingAll is a receive rule with each of its first groups.
func (h *host) hearingAll(t *mapping.Table, rule int) (subjects []*doctor.Subject) {
	r := &t.Receive()[rule]
	for j := range r.Joins() {
		if len(subjects) == mostGroups {
			break
		}
		s := h.hearing(t, rule, j.Group)
		s.All = groupSets(r.Groups)
		subjects = append(subjects, s)
	}
	return subjects
}

// withTopic are the rules that a topic matches, and those that publish on it, be it answers.
func (h *host) withTopic(t *mapping.Table, topic string) (subjects []*doctor.Subject) {
	for _, target := range t.Lookup(topic, nil) {
		s := h.sending(t, target.Rule, target.To, target.Err == nil && target.To.IsValid())
		s.Topic, s.TopicErr = topic, target.Err
		subjects = append(subjects, s)
	}
	for i, r := range t.Send() {
		if r.AnswersOn(topic) {
			to, exact := r.To().Fixed()
			subjects = append(subjects, h.sending(t, i, to, exact))
		}
	}
	for i, r := range t.Receive() {
		if r.Topic.Matches(topic) {
			subjects = append(subjects, h.hearingAll(t, i)...)
		}
	}
	return subjects
}

// withGroup are the rules with a group, or with a host.
func (h *host) withGroup(t *mapping.Table, group netip.AddrPort) (subjects []*doctor.Subject) {
	for i, r := range t.Send() {
		if r.Host.IsZero() == group.Addr().IsMulticast() && r.To().Reaches(group) {
			subjects = append(subjects, h.sending(t, i, group, true))
		}
	}
	for i, r := range t.Receive() {
		if r.Hears(group) {
			to := group
			if r.Port != 0 {
				to = netip.AddrPortFrom(unspecifiedOf(group.Addr()), r.Port)
			}
			subjects = append(subjects, h.hearing(t, i, to))
		}
	}
	return subjects
}

func unspecifiedOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// sending is a send rule of the table, and where it sends to; not valid: that depends.
func (h *host) sending(t *mapping.Table, i int, to netip.AddrPort, exact bool) *doctor.Subject {
	r := &t.Send()[i]
	if !to.IsValid() && r.Host.IsZero() {
		if p := r.Group.Prefix(); p.IsValid() { // one of its groups speaks for them all
			to = netip.AddrPortFrom(p.Addr(), portOf(r.Group))
		}
	}
	s := &doctor.Subject{
		Name: r.Name, Of: ruleTitle("send", t.SendPlace(i), r.Name), Send: true, To: to, Exact: exact,
		Interface: r.Binding.Interface, Wanted: r.Binding.Source, TTL: r.Binding.TTL, Loopback: r.Binding.Loopback,
		Asks: r.Answer != nil,
	}
	_, s.Only = r.To().Fixed()
	if p := r.Group.Prefix(); r.Host.IsZero() && !exact && p.IsValid() {
		s.Groups = p
	}
	h.resolve(s, r.Binding)
	if s.Err == nil && !r.Host.IsZero() && to.IsValid() && !s.On.Loopback {
		if f := h.stray(r, to.Addr(), s.Source, s.On); f.err != nil {
			s.Said = &doctor.Said{Key: f.path, Text: f.err.Error(), Hint: f.hint}
		}
	}
	return s
}

// portOf is the port of a template; 0: it has none that is fixed.
func portOf(g mapping.Group) uint16 {
	text := g.String()
	n, _ := strconv.ParseUint(text[strings.LastIndex(text, ":")+1:], 10, 16)
	return uint16(n)
}

// resolve finds where a subject leaves from.
func (h *host) resolve(s *doctor.Subject, b mapping.Binding) {
	p := h.place(b)
	s.Source, s.Err = p.source, p.err
	name := b.Interface
	if s.Err == nil {
		name = p.source.Interface
	}
	if on, err := multicast.ResolveInterface(name, h.interfaces); err == nil {
		s.On = on
	}
}

// hearing is a receive rule of the table, and a group of it.
func (h *host) hearing(t *mapping.Table, i int, group netip.AddrPort) *doctor.Subject {
	r := &t.Receive()[i]
	s := &doctor.Subject{
		Name: r.Name, Of: ruleTitle("receive", t.ReceivePlace(i), r.Name), To: group, Exact: true, Interface: r.Interface, Sources: r.Sources,
		Hears: r.Hears,
	}
	s.On, s.Err = multicast.ResolveInterface(r.Interface, h.interfaces)
	return s
}

// groupSets are the groups of a rule by their ports, as a rule of nftables names them.
func groupSets(groups []mapping.GroupRange) (sets []doctor.GroupSet) {
	for _, g := range groups {
		text := g.First.String()
		if g.Last != g.First {
			text += "-" + g.Last.String()
		}
		i := slices.IndexFunc(sets, func(s doctor.GroupSet) bool { return s.Port == g.Port })
		if i < 0 {
			sets = append(sets, doctor.GroupSet{Groups: text, Port: g.Port})
			continue
		}
		sets[i].Groups += ", " + text
	}
	for i, s := range sets {
		if strings.Contains(s.Groups, ", ") {
			sets[i].Groups = "{ " + s.Groups + " }"
		}
	}
	return sets
}

// withoutRules are what comes for a group by --interface, and what leaves for it from --source.
func (o *doctorOptions) withoutRules(what string, h *host) (subjects []*doctor.Subject, err error) {
	if what == "" {
		return nil, usageError(errors.New("GROUP:PORT is missing: --interface and --source are for a group without a configuration"))
	}
	rule, zone, err := parseTarget(what)
	if err != nil {
		return nil, err
	}
	if err := oneInterface(o.on); err != nil {
		return nil, err
	}
	on, err := joinZone(o.on, zone)
	if err != nil {
		return nil, err
	}
	to, _ := rule.To().Fixed()
	if o.source != "" {
		if rule.Binding, err = o.binding(rule, on); err != nil {
			return nil, err
		}
		s := &doctor.Subject{Of: to.String(), Send: true, To: to, Exact: true, Interface: on, Wanted: rule.Binding.Source, TTL: rule.Binding.TTL, Loopback: true}
		h.resolve(s, rule.Binding)
		if s.Err == nil && !rule.Host.IsZero() && !s.On.Loopback {
			if f := h.stray(&rule, to.Addr(), s.Source, s.On); f.err != nil {
				s.Said = &doctor.Said{Key: f.path, Text: f.err.Error(), Hint: f.hint}
			}
		}
		subjects = append(subjects, s)
	}
	if on != "" && rule.Host.IsZero() {
		s := &doctor.Subject{Of: to.String(), To: to, Exact: true, Interface: on}
		s.On, s.Err = multicast.ResolveInterface(on, h.interfaces)
		subjects = append(subjects, s)
	}
	if len(subjects) == 0 {
		return nil, usageError(fmt.Errorf("%s is no group: name the --source that it is sent from", what))
	}
	return subjects, nil
}

// binding is that of a datagram from --source, as topicast send would have it.
func (o *doctorOptions) binding(rule mapping.SendRule, on string) (mapping.Binding, error) {
	b := mapping.Binding{Interface: on, TTL: 1, Loopback: true}
	if !rule.Host.IsZero() {
		b.TTL = mapping.DefaultHostTTL
	}
	var err error
	if b.Source, err = parseSource(o.source); err != nil {
		return b, usageError(fmt.Errorf("--source: %w", err))
	}
	rule.Binding = b
	return compileOne(rule)
}
