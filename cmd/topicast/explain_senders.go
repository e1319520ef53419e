package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"topicast/configs"
	"topicast/mapping"
)

// explainSenders tells which send rules send to a group or to a host, and from where; and whether
// any does.
func explainSenders(out io.Writer, to netip.AddrPort, t *mapping.Table, h *host) bool {
	rules := t.Send()
	var reach []int
	for i := range rules {
		refused := !rules[i].Host.IsZero() && !rules[i].Broadcasts() && h.isBroadcast(to.Addr())
		if rules[i].To().Reaches(to) && !refused {
			reach = append(reach, i)
		}
	}
	if len(reach) == 0 {
		return false
	}
	n := distinct(len(reach), func(i int) int { return t.SendPlace(reach[i]) })
	fmt.Fprintf(out, "\n%s: %d of %s can send to it\n", to, n, count(len(t.Configured().Send()), "send rule"))
	for _, i := range reach {
		r := &rules[i]
		word := "can send"
		if _, fixed := r.To().Fixed(); fixed {
			word = "sends"
		}
		fmt.Fprintf(out, "\n%s %s to it: filter %s\n", ruleTitle("send", t.SendPlace(i), r.Name), word, r.Filter)
		line := lines(out)
		h.explainDisabled(line, r.Name)
		by := explainLeaving(line, r, to.Addr(), false, h)
		keys := []string{"group", "source", "interface", "ttl", "when", "members"}
		if !r.Host.IsZero() {
			keys = []string{"host", "source", "interface", "ttl", "when"}
		}
		explainKeys(line, sendKeys(keys...), r, by)
	}
	return true
}

// sendKeys are the keys of a send rule that have one of these names.
func sendKeys(names ...string) []configs.Key {
	return slices.DeleteFunc(configs.SendKeys(), func(k configs.Key) bool { return !slices.Contains(names, k.Name) })
}

// explainLeaving tells where the datagrams of a rule to a group or host leave from on this host, and who
// has joined it. open: which one it is is not known.
func explainLeaving(line func(key, format string, args ...any), r *mapping.SendRule, to netip.Addr, open bool, h *host) special {
	b, p, keys := r.Binding, h.place(r.Binding), configs.SendKeys()
	return special{
		"source_port": nil, // in the line of source
		"source": func() {
			if p.err == nil {
				line("source", "%s, %s", p.source.Addr, portText(b.SourcePort))
			} else {
				line("source", "%s, %s", wantedSource(b), portText(b.SourcePort))
			}
		},
		"interface": func() {
			if p.err != nil {
				line("interface", "%s", cmp.Or(b.Interface, "the one that has the source"))
				line("pending", "%v", p.err)
				return
			}
			line("interface", "%s (index %d, mtu %d)", p.source.Interface, p.source.Index, p.source.MTU)
			if open {
				return
			}
			if route, ok := p.source.GatewayRoute(to); ok && !b.Host {
				text, hint := routeText(route, true)
				line("route", "%s", text)
				if route.Binding {
					line("hint", "%s", hint)
				}
			}
		},
		"members": func() {
			line("members", "%s", meant(keys, "members", fmt.Sprint(r.Members)))
			if p.err != nil || open || b.Host || h.listeners == nil {
				return
			}
			if text := h.listeners.of(r, p, to); text != "" {
				line("joined", "%s", text)
			}
		},
	}
}
