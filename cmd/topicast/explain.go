package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"topicast/configs"
	"topicast/mapping"
)

func newExplainCommand() *cobra.Command {
	var file, from string
	c := &cobra.Command{
		Use:   "explain TOPIC|GROUP:PORT",
		Short: "Tell where a topic's messages or a group's datagrams go, and why",
		Long: `Of a topic, tell which send rules it matches, and what each makes of its messages:
the exact group, source, interface and ttl, what becomes of the payload and of
retained messages; or why a rule drops them. Tell too which receive rules can
publish on it. Of a topic that no rule knows, tell which filters come nearest.

Of a group, tell which receive rules listen to it, and on which topic each
publishes its datagrams; --from says from whom they are, for rules that go by it.

Nothing is opened and nothing is sent.

Exit status: 0 the messages go to a group at least or come from one, or the
datagrams go to a topic; 1 they go nowhere, or the configuration has faults; 2
wrong usage.`,
		Example: `  topicast explain site/3/lamp/7/set
  topicast explain site/3/lamp/7/set --config gateway.yaml
  topicast explain 239.255.3.7:30001 --from 127.0.0.3:40000`,
		RunE: func(c *cobra.Command, args []string) error {
			return runExplain(args[0], from, file, c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
	c.Flags().StringVar(&from, "from", "", "the sender of a group's datagrams: an `address`, or one with its port")
	return c
}

func runExplain(what, from, file string, out io.Writer) error {
	q, isGroup, err := parseQuestion(what, from)
	if err != nil {
		return err
	}
	cfg, err := configs.Load(file, nil)
	if err != nil {
		return err
	}
	h, err := newHost()
	if err != nil {
		return err
	}
	if isGroup {
		return explainGroup(out, q, cfg.Table, h)
	}
	return explainTopic(out, what, cfg.Table, h)
}

// explainTopic tells what becomes of the messages of a topic, and where they may
// come from.
func explainTopic(out io.Writer, topic string, t *mapping.Table, h *host) error {
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
		explainNone(out, topic, send)
		return errSaid
	default:
		fmt.Fprintf(out, "%s matches none of %s\n", printable(topic), count(len(send), "send rule"))
	}
	lost := 0
	for _, target := range targets {
		fmt.Fprintln(out)
		explainTarget(out, target, send[target.Rule], h)
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

// explainTarget tells what one rule makes of the topic's messages.
func explainTarget(out io.Writer, target mapping.Target, r mapping.SendRule, h *host) {
	fmt.Fprintf(out, "%s: filter %s, qos %d\n", ruleTitle("send", target.Rule, r.Name, r.Filter.String()), r.Filter, r.QoS)
	line := lines(out)
	if target.Err != nil {
		line("drop", "bad_group: %v", target.Err)
		return
	}
	b, p := r.Binding, h.place(r.Binding)
	line("group", "%s", target.Group)
	if p.err == nil {
		line("source", "%s, %s", p.source.Addr, portText(b.SourcePort))
		line("interface", "%s (index %d, mtu %d)", p.source.Interface, p.source.Index, p.source.MTU)
	} else {
		line("source", "%s, %s", wantedSource(b), portText(b.SourcePort))
		line("interface", "%s", cmp.Or(b.Interface, "the one that has the source"))
		line("pending", "%v", p.err)
	}
	line("ttl", "%d", b.TTL)
	if b.DSCP != 0 {
		line("dscp", "%d", b.DSCP)
	}
	line("loopback", "%s", loopbackText(b.Loopback))
	line("payload", "%s", payloadText(r.Payload))
	line("retained", "%s", retainedText(r.Retained))
	line("oversize", "%s", oversizeText(b.Fragment, p))
}

// lines returns what prints the lines about a rule, a key in front of each.
func lines(out io.Writer) func(key, format string, args ...any) {
	return func(key, format string, args ...any) {
		fmt.Fprintf(out, "  %-11s %s\n", key, printable(fmt.Sprintf(format, args...)))
	}
}

// ruleTitle is "rule lamps (send[0])", or "rule send[0]" where the name is the one
// that a rule has by itself.
func ruleTitle(list string, i int, name, byItself string) string {
	if name == byItself {
		return fmt.Sprintf("rule %s[%d]", list, i)
	}
	return fmt.Sprintf("rule %s (%s[%d])", printable(name), list, i)
}

func wantedSource(b mapping.Binding) string {
	if !b.Source.IsValid() {
		return "its primary address"
	}
	return sourceText(b.Source)
}

func portText(port uint16) string {
	if port == 0 {
		return "any free port"
	}
	return fmt.Sprintf("port %d", port)
}

func loopbackText(on bool) string {
	if on {
		return "true: programs on this host hear them too"
	}
	return "false: programs on this host do not hear them"
}

func payloadText(p mapping.Payload) string {
	if p.Raw() {
		return "raw: the same bytes"
	}
	return p.String() + ": decoded before sending"
}

func retainedText(r mapping.Retained) string {
	switch r {
	case mapping.RetainedAlways:
		return "always: sent like others"
	case mapping.RetainedNever:
		return "never: not sent"
	}
	return "once: sent when it differs from the last one sent for the topic"
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

// explainNone tells what a topic that no rule matches comes near to.
func explainNone(out io.Writer, topic string, rules []mapping.SendRule) {
	fmt.Fprintf(out, "%s matches none of %s: drop no_rule\n", printable(topic), count(len(rules), "send rule"))
	near := nearest(topic, rules)
	if len(near) == 0 {
		return
	}
	fmt.Fprint(out, "\nnearest:\n")
	t := &table{}
	for _, n := range near {
		t.row("  "+n.filter, n.why)
	}
	_ = t.print(out) // the output is watched
}

// neighbour is a filter that a topic matches up to a level.
type neighbour struct {
	filter string
	levels int // how many match
	why    string
}

// nearest finds the filters that match the longest part of a topic, the longest
// first, and says where each parts from it.
func nearest(topic string, rules []mapping.SendRule) []neighbour {
	const most = 5
	var near []neighbour
	for _, r := range rules {
		if n := compare(topic, r.Filter); n.levels > 0 || strings.HasPrefix(n.why, caseDiffers) {
			near = append(near, n)
		}
	}
	slices.SortStableFunc(near, func(a, b neighbour) int { return cmp.Compare(b.levels, a.levels) })
	return near[:min(len(near), most)]
}

const caseDiffers = "upper and lower case differ"

// compare walks a topic and a filter that does not match it, level by level.
func compare(topic string, f mapping.Filter) neighbour {
	n := neighbour{filter: f.String()}
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(f.MQTT(), "$") {
		n.why = "no wildcard stands for a first level with $" // [MQTT-4.7.2-1]
		return n
	}
	have, want := strings.Split(topic, "/"), strings.Split(f.MQTT(), "/")
	for i, level := range want {
		switch {
		case i == len(have):
			n.why = fmt.Sprintf("the topic ends after level %d of %d", i, len(want))
			return n
		case level == "+" || level == have[i]:
			n.levels++
			continue
		case strings.EqualFold(level, have[i]):
			n.why = fmt.Sprintf("%s at level %d: %s, not %s", caseDiffers, i+1, level, have[i])
		default:
			n.why = fmt.Sprintf("level %d is %s, not %s", i+1, quoteEmpty(level), quoteEmpty(have[i]))
		}
		return n
	}
	n.why = fmt.Sprintf("the topic goes on after level %d", len(want))
	return n
}

// quoteEmpty makes a level visible that has no characters.
func quoteEmpty(level string) string {
	if level == "" {
		return `empty ("")`
	}
	return level
}
