package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"topicast/configs"
	"topicast/mapping"
)

func newExplainCommand() *cobra.Command {
	var file, from string
	c := &cobra.Command{
		Use:   "explain TOPIC|GROUP:PORT|HOST:PORT",
		Short: "Tell where a topic's messages or a group's datagrams go, and why",
		Long: `Of a topic, tell which send rules it matches, and what each makes of its messages:
the exact group, source, interface and ttl, what becomes of the payload and of
retained messages; or why a rule drops them. Tell too which receive rules can
publish on it. Of a topic that no rule knows, tell which filters come nearest.

Of a group, or of an address of this host with a port, tell which receive rules
listen to it, and on which topic each publishes its datagrams; --from says from
whom they are, for rules that go by it.

Nothing is opened and nothing is sent.

Exit status: 0 the messages go to a group at least or come from one, or the
datagrams go to a topic; 1 they go nowhere, or the configuration has faults; 64
wrong usage.`,
		Example: `  topicast explain site/3/lamp/7/set
  topicast explain site/3/lamp/7/set --config gateway.yaml
  topicast explain 239.255.3.7:30001 --from 127.0.0.3:40000
  topicast explain 192.0.2.5:6454`,
		RunE: func(c *cobra.Command, args []string) error {
			return runExplain(c.Context(), args[0], from, file, c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
	c.Flags().StringVar(&from, "from", "", "the sender of a group's datagrams: an `address`, or one with its port")
	return c
}

func runExplain(ctx context.Context, what, from, file string, out io.Writer) error {
	q, isGroup, err := parseQuestion(what, from)
	if err != nil {
		return err
	}
	cfg, err := loadUntil(ctx, file, nil)
	if err != nil {
		return err
	}
	h, err := newHost()
	if err != nil {
		return err
	}
	h.know(cfg)
	if isGroup {
		return explainGroup(out, q, cfg.Table, h)
	}
	return explainTopic(out, what, cfg, h)
}

// explainTopic tells what becomes of the messages of a topic, and where they may
// come from.
func explainTopic(out io.Writer, topic string, cfg *configs.Config, h *host) error {
	t := cfg.Table
	send := t.Send()
	targets := t.Lookup(topic, nil)
	publishers := t.Receive()
	var from []int
	for i, r := range publishers {
		if r.Topic.Matches(topic) {
			from = append(from, i)
		}
	}
	switch {
	case len(targets) > 0:
		fmt.Fprintf(out, "%s matches %d of %s\n", printable(topic), len(targets), count(len(send), "send rule"))
	case len(from) == 0:
		if err := groupFault(topic); err != nil {
			return usageError(withHint(err, fmt.Sprintf("as a topic it matches none of %s", count(len(send), "send rule"))))
		}
		explainNone(out, topic, t)
		if isConfiguration(topic) {
			return withHint(errSaid, "topicast explain TOPIC --config "+shellWord(topic))
		}
		return errSaid
	default:
		fmt.Fprintf(out, "%s matches none of %s\n", printable(topic), count(len(send), "send rule"))
	}
	lost := 0
	for _, target := range targets {
		fmt.Fprintln(out)
		explainTarget(out, target, send[target.Rule], cfg.Spool.Dir, h)
		if target.Err != nil {
			lost++
		}
	}
	for _, i := range from {
		fmt.Fprintln(out)
		explainPublisher(out, i, publishers[i], t.ReceiveLoops(i), h)
	}
	if lost == len(targets) && len(from) == 0 {
		return errSaid
	}
	return nil
}

// groupFault is what keeps a text from being a group that was probably meant as one;
// or nil.
func groupFault(text string) error {
	switch _, _, err := parseGroups(text); {
	case err == nil:
		return fmt.Errorf("%s are several groups; name one", text)
	case meansGroup(text):
		return err
	}
	return nil
}

// explainTarget tells what one rule makes of the topic's messages. spool is the folder of
// the spool.
func explainTarget(out io.Writer, target mapping.Target, r mapping.SendRule, spool string, h *host) {
	fmt.Fprintf(out, "%s: filter %s, qos %d\n", ruleTitle("send", target.Rule, r.Name), r.Filter, r.QoS)
	line := lines(out)
	if target.Err != nil {
		line("drop", "bad_%s: %v", r.To().Kind(), target.Err)
		return
	}
	b, p, keys := r.Binding, h.place(r.Binding), configs.SendKeys()
	line(r.To().Kind(), "%s", target.Group)
	explainKeys(line, keys, &r, special{
		"name": nil, "filter": nil, "qos": nil, // in the title
		"source_port": nil, // in the line of source
		"group":       nil,
		"host":        nil,
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
			if route, ok := p.source.GatewayRoute(target.Group.Addr()); ok && !b.Host {
				text, hint := routeText(route, true)
				line("route", "%s", text)
				if route.Binding {
					line("hint", "%s", hint)
				}
			}
		},
		"oversize": func() { line("oversize", "%s", oversizeText(b.Fragment, p)) },
		"counter": func() {
			if r.Counter.IsZero() {
				line("counter", "none")
			} else {
				line("counter", "%s", meant(keys, "counter", r.Counter.String()))
			}
		},
		"rate":      func() { line("rate", "%s", rateText(&r, keys)) },
		"when_over": nil, // in the line of rate
		"on_down":   func() { line("on_down", "%s", onDownText(r.OnDown, keys, spool)) },
	})
}

// special has what prints the line of a key of which the host or the question tells more
// than the rule; nil: another line has it.
type special map[string]func()

// explainKeys prints a line for each key of a rule: the value, and what it means.
func explainKeys(line func(key, format string, args ...any), keys []configs.Key, rule any, by special) {
	for _, k := range keys {
		print, is := by[k.Name]
		switch {
		case !is:
			values := k.Values(rule)
			text := mapping.Listed(values, func(v string) string { return v })
			switch m := k.Meaning(text); {
			case text == "":
				text = m
			case m != "":
				text += ": " + m
			}
			line(k.Name, "%s", text)
		case print != nil:
			print()
		}
	}
}

// lines returns what prints the lines about a rule, a key in front of each.
func lines(out io.Writer) func(key, format string, args ...any) {
	return func(key, format string, args ...any) {
		fmt.Fprintf(out, "  %-11s %s\n", key, printable(fmt.Sprintf(format, args...)))
	}
}

// ruleTitle is "rule lamps (send[0])".
func ruleTitle(list string, i int, name string) string {
	return fmt.Sprintf("rule %s (%s[%d])", printable(name), list, i)
}

func wantedSource(b mapping.Binding) string {
	if !b.Source.IsValid() {
		return "its primary address"
	}
	return mapping.PrefixText(b.Source)
}

func portText(port uint16) string {
	if port == 0 {
		return "any free port"
	}
	return fmt.Sprintf("port %d", port)
}

// onDownText is what the key means, and where messages are kept.
func onDownText(o mapping.OnDown, keys []configs.Key, spool string) string {
	text := meant(keys, "on_down", o.String())
	if o != mapping.OnDownSpool {
		return text
	}
	return text + ", in " + cmp.Or(spool, "memory, unless systemd gives a folder")
}

// meant is a value of a key, and what it means.
func meant(keys []configs.Key, name, value string) string {
	for _, k := range keys {
		if k.Name == name {
			return value + ": " + k.Meaning(value)
		}
	}
	return value
}

// rateText is what a target gets at most, and what becomes of the rest.
func rateText(r *mapping.SendRule, keys []configs.Key) string {
	if r.Rate.Period() == 0 {
		return "no limit"
	}
	_, over, _ := strings.Cut(meant(keys, "when_over", r.WhenOver.String()), ": ")
	return fmt.Sprintf("%s: each target gets one in %s at most; %s", r.Rate, configs.DurationText(r.Rate.Period()), over)
}

func oversizeText(fragment bool, p place) string {
	word, text := "fragment", "leaves in IP fragments"
	if !fragment {
		word, text = "drop", "is dropped"
	}
	if p.err != nil {
		return fmt.Sprintf("%s: what is above the mtu %s", word, text)
	}
	return fmt.Sprintf("%s: what is above %d bytes %s", word, room(p.source), text)
}
