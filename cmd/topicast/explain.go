package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

func newExplainCommand() *cobra.Command {
	var file, from, payload, contentType string
	var properties []string
	c := &cobra.Command{
		Use:   "explain TOPIC|GROUP:PORT|HOST:PORT",
		Short: "Tell where a topic's messages or a group's datagrams go, and why",
		Long: `Of a topic, tell which send rules it matches, and what each makes of its messages:
the exact group, source, interface and ttl, what becomes of the payload and of
retained messages; or why a rule drops them. Tell too which receive rules can
publish on it, and which send rules what devices answer them. Of a topic that no
rule knows, tell which filters come nearest.

Of a group, or of an address of this host with a port, tell which receive rules
listen to it, and on which topic each publishes its datagrams; --from says from
whom they are, for rules that go by it. Of a group, or of a host, tell too which send
rules send to it, or can by one topic or another, and from where.

--payload is one message, or one datagram: a text, bytes as hex:0d0a, or what is in
@FILE (@- is the standard input). It shows which rules' when takes it; the target
that fields of the payload give, and how long the datagram is; or how it is split,
and the topic of each message. --property and --content-type are what a message of
MQTT 5 says beside its payload, which is empty if it is not given.

Of a group that a rule sends to on a Linux bridge it says who has joined it. The
topicast that runs is asked, at web.listen, which rules are disabled, and of a rule
with members: true who has joined.

Nothing is opened on the network and nothing is sent.

Exit status: 0 the messages go to a group at least or come from one, or the
datagrams go to a topic, or come from a rule; 1 they go nowhere, or the
configuration has faults; 64 wrong usage.`,
		Example: `  topicast explain site/3/lamp/7/set
  topicast explain site/3/lamp/7/set --config gateway.yaml
  topicast explain 239.255.3.7:30001 --from 127.0.0.3:40000
  topicast explain 192.0.2.5:6454
  topicast explain site/3/lamp/7/set --payload '{"on":true}'
  topicast explain site/3/lamp/7/set --property room=3 --property device-id=12`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := parseSample(c.Context(), payload, c.Flags().Changed("payload"), c.InOrStdin())
			if err != nil {
				return err
			}
			if err := s.addProperties(properties, contentType, c.Flags().Changed("content-type")); err != nil {
				return err
			}
			return runExplain(c.Context(), args[0], from, file, s, c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
	c.Flags().StringVar(&from, "from", "", "the sender of a group's datagrams: an `address`, or one with its port")
	c.Flags().StringVar(&payload, "payload", "", "a message or datagram: a `TEXT`, hex: and bytes, or @ and a file")
	c.Flags().StringArrayVar(&properties, "property", nil, "a user property of the message, `NAME=VALUE`; may be given several times")
	c.Flags().StringVar(&contentType, "content-type", "", "the content type of the message, a `TEXT`")
	return c
}

func runExplain(ctx context.Context, what, from, file string, s sample, out io.Writer) error {
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
	h.listeners = newListeners(ctx, cfg)
	if isGroup {
		if s.said != nil {
			return usageError(fmt.Errorf("--property and --content-type are of a message, and %s is where datagrams come to, which have none", what))
		}
		q.sample = s
		return explainGroup(out, q, cfg.Table, h)
	}
	return explainTopic(out, what, s, cfg, h)
}

// explainTopic tells what becomes of the messages of a topic, and where they may
// come from.
func explainTopic(out io.Writer, topic string, s sample, cfg *configs.Config, h *host) error {
	t := cfg.Table
	send, configured := t.Send(), len(t.Configured().Send())
	targets := t.Lookup(topic, nil)
	publishers := t.Receive()
	var from []int
	for i, r := range publishers {
		if r.Topic.Matches(topic) {
			from = append(from, i)
		}
	}
	var asking []int
	for i := range send {
		if send[i].AnswersOn(topic) {
			asking = append(asking, i)
		}
	}
	switch {
	case len(targets) > 0:
		fmt.Fprintf(out, "%s matches %d of %s\n", printable(topic), distinct(len(targets), func(i int) int { return t.SendPlace(targets[i].Rule) }), count(configured, "send rule"))
	case len(from)+len(asking) == 0:
		if err := groupFault(topic); err != nil {
			return usageError(withHint(err, fmt.Sprintf("as a topic it matches none of %s", count(configured, "send rule"))))
		}
		explainNone(out, topic, t)
		if isConfiguration(topic) {
			return withHint(errSaid, "topicast explain TOPIC --config "+shellWord(topic))
		}
		return errSaid
	default:
		fmt.Fprintf(out, "%s matches none of %s\n", printable(topic), count(configured, "send rule"))
	}
	lost := 0
	for _, target := range targets {
		fmt.Fprintln(out)
		o := s.outcome(target, &send[target.Rule], topic)
		if r := &send[target.Rule]; o.filtered+o.dropped == "" && !o.open && !r.Host.IsZero() && !r.Broadcasts() && h.isBroadcast(o.To.Addr()) {
			o.dropped = "bad_host: " + o.To.Addr().String() + ": " + multicast.BroadcastRefused
		}
		explainTarget(out, o, t.SendPlace(target.Rule), s, send[target.Rule], cfg.Spool.Dir, h)
		if o.filtered+o.dropped != "" {
			lost++
		}
	}
	for _, i := range from {
		fmt.Fprintln(out)
		explainPublisher(out, t.ReceivePlace(i), publishers[i], t.ReceiveLoops(i), h)
	}
	for _, i := range asking {
		fmt.Fprintln(out)
		explainAsking(out, t.SendPlace(i), send[i], h)
	}
	if lost == len(targets) && len(from)+len(asking) == 0 {
		return errSaid
	}
	return nil
}

// explainAsking tells which requests of a rule have answers that it may publish on a topic.
func explainAsking(out io.Writer, place int, r mapping.SendRule, h *host) {
	fmt.Fprintf(out, "%s can publish on it what is answered: filter %s\n", ruleTitle("send", place, r.Name), r.Filter)
	line := lines(out)
	h.explainDisabled(line, r.Name)
	line(r.To().Kind(), "%s", r.To())
	if r.Binding.Interface != "" {
		line("interface", "%s", r.Binding.Interface)
	}
	line("answer", "%s", r.Answer)
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

// distinct is how many of n things are apart.
func distinct(n int, of func(int) int) int {
	seen := make(map[int]bool)
	for i := range n {
		seen[of(i)] = true
	}
	return len(seen)
}

// explainTarget tells what one rule, at its place in the configuration, makes of the topic's
// messages. spool is the folder of the spool.
func explainTarget(out io.Writer, o outcome, place int, s sample, r mapping.SendRule, spool string, h *host) {
	fmt.Fprintf(out, "%s: filter %s, qos %d\n", ruleTitle("send", place, r.Name), r.Filter, r.QoS)
	line := lines(out)
	h.explainDisabled(line, r.Name)
	switch {
	case o.filtered != "":
		line("filtered", "%s", o.filtered)
		return
	case o.dropped != "":
		line("drop", "%s", o.dropped)
		return
	}
	b, p, keys := r.Binding, h.place(r.Binding), configs.SendKeys()
	line(r.To().Kind(), "%s", o.targetText(&r))
	if s.given {
		line("datagram", "%s", count(o.bytes, "byte"))
	}
	by := explainLeaving(line, &r, o.To.Addr(), o.open, h)
	maps.Copy(by, special{
		"name": nil, "filter": nil, "qos": nil, // in the title
		"group":    nil,
		"host":     nil,
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
	explainKeys(line, keys, &r, by)
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
