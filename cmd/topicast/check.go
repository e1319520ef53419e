package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"topicast/configs"
	"topicast/mapping"
)

func newCheckCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "check [FILE]...",
		Short: "Check configurations and print their rules",
		Long: `Check configurations, print their rules in a table for each direction, and what
to think about again as warnings. Nothing is opened and nothing is sent.

All faults are reported at once, each with its file, line, column and key. What
only this host can tell is checked too: a source that is not on the interface
named, or that is the broadcast address of its network, is a fault; an interface
or an address that is absent now is a warning, as the rule waits for it; so are
limits of the system that are too low for the groups to listen to.

Without FILE it is the file that topicast run would take: $TOPICAST_CONFIG,
./topicast.yaml or /etc/topicast/topicast.yaml, the first there is.

Exit status: 0 all files are good, though there may be warnings; 1 there are
faults; 2 wrong usage.`,
		Example: `  topicast check
  topicast check gateway.yaml
  topicast check --config gateway.yaml`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml", "toml", "json"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			return runCheck(append(files, args...), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringArrayVarP(&files, "config", "c", nil, "a `file` to check, as if given as FILE; may be repeated")
	return c
}

// runCheck checks every file, and fails with the faults of all.
func runCheck(files []string, out, errOut io.Writer) error {
	if len(files) == 0 {
		files = []string{""} // the file that run would take
	}
	h, err := newHost()
	if err != nil {
		return err
	}
	var faults configs.Errors
	checked := 0
	for _, file := range files {
		cfg, err := configs.Load(file, nil)
		if err != nil {
			faults = append(faults, faultsOf(file, err)...)
			continue
		}
		if checked++; checked > 1 {
			fmt.Fprintln(out)
		}
		faults = append(faults, checkHost(cfg, h, out, errOut)...)
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

func faultsOf(file string, err error) configs.Errors {
	if faults, ok := errors.AsType[configs.Errors](err); ok {
		return faults
	}
	return configs.Errors{{Origin: file, Err: err}}
}

// checkHost prints what a configuration comes to on this host, and returns the
// faults that only the host can tell.
func checkHost(cfg *configs.Config, h *host, out, errOut io.Writer) configs.Errors {
	send, receive := cfg.Table.Send(), cfg.Table.Receive()
	faults, warnings := h.examine(send)
	receiveFaults, receiveWarnings := h.examineReceive(receive)
	faults = append(faults, receiveFaults...)
	fmt.Fprintf(out, "%s: broker %s, as %s\n\n", cfg.File, strings.Join(cfg.Broker.URLs, ", "), cfg.Broker.ClientID)
	// The output is watched.
	if len(send) > 0 {
		_ = printSend(out, send, h)
		fmt.Fprintln(out)
	}
	if len(receive) > 0 {
		_ = printReceive(out, cfg.Table, h)
		fmt.Fprintln(out)
	}
	for _, w := range slices.Concat(cfg.Warnings, located(cfg, warnings), located(cfg, receiveWarnings), located(cfg, h.examineLimits(cfg.Table))) {
		printWarning(errOut, w)
	}
	verdict := "ok"
	if len(faults) > 0 {
		verdict = count(len(faults), "fault")
	}
	fmt.Fprintf(out, "%s: %s\n", sum(cfg.Table), verdict)
	return located(cfg, faults)
}

// sum is "3 send rules, 2 bindings, 2 subscriptions; 1 receive rule, 63 sockets".
func sum(t *mapping.Table) string {
	var halves []string
	if send := t.Send(); len(send) > 0 {
		halves = append(halves, fmt.Sprintf("%s, %s, %s", count(len(send), "send rule"), count(bindings(send), "binding"),
			count(len(t.Subscriptions()), "subscription")))
	}
	if receive := t.Receive(); len(receive) > 0 {
		halves = append(halves, fmt.Sprintf("%s, %s", count(len(receive), "receive rule"), count(sockets(receive), "socket")))
	}
	return strings.Join(halves, "; ")
}

// located says where in the file each finding is.
func located(cfg *configs.Config, findings []finding) (list configs.Errors) {
	for _, f := range findings {
		line, column := cfg.At(f.path)
		list = append(list, &configs.Error{Origin: cfg.File, Line: line, Column: column, Path: f.path, Err: f.err, Hint: f.hint})
	}
	return list
}

// bindings is how many sockets send rules need.
func bindings(rules []mapping.SendRule) int {
	distinct := make(map[mapping.Binding]bool)
	for _, r := range rules {
		distinct[r.Binding] = true
	}
	return len(distinct)
}

// printSend prints a line for each send rule, with source and interface as they
// are on this host now.
func printSend(out io.Writer, rules []mapping.SendRule, h *host) error {
	t := newTable("SEND", "FILTER", "QOS", "GROUP", "SOURCE", "INTERFACE", "TTL", "MORE")
	for i, r := range rules {
		source, on := sourceText(r.Binding.Source), cmp.Or(r.Binding.Interface, "-")
		if p := h.place(r.Binding); p.err == nil {
			source, on = p.source.Addr.String(), p.source.Interface
		}
		t.row(ruleName("send", i, r.Name, r.Filter.String()), r.Filter, r.QoS, r.Group, source, on, r.Binding.TTL, strings.Join(extras(r, h), ", "))
	}
	return t.print(out)
}

// printReceive prints a line for each receive rule, with the interface as it is
// on this host now.
func printReceive(out io.Writer, table *mapping.Table, h *host) error {
	t := newTable("RECEIVE", "GROUPS", "INTERFACE", "SOURCES", "TOPIC", "QOS", "MORE")
	for i, r := range table.Receive() {
		e := h.ear(r)
		t.row(ruleName("receive", i, r.Name, groupList(r.Groups)), groupList(r.Groups), cmp.Or(e.on.Name, r.Interface),
			sourceList(r.Sources), r.Topic, r.QoS, strings.Join(receiveExtras(r, e, table.ReceiveLoops(i)), ", "))
	}
	return t.print(out)
}

// ruleName is the rule's name, or its place where the name is the one that a rule
// has by itself.
func ruleName(list string, i int, name, byItself string) string {
	if name == byItself {
		return fmt.Sprintf("%s[%d]", list, i)
	}
	return name
}

// receiveExtras are what a receive rule says beyond the columns, defaults left out.
func receiveExtras(r mapping.ReceiveRule, e ear, loops bool) (list []string) {
	switch {
	case e.pending():
		list = append(list, "pending")
	case e.err != nil:
		list = append(list, "refused")
	}
	if r.Retain {
		list = append(list, "retain")
	}
	if !r.Encoding.Raw() {
		list = append(list, "payload "+r.Encoding.String())
	}
	if r.Every > 0 {
		list = append(list, fmt.Sprintf("every %v", r.Every))
	}
	if r.OnChange {
		list = append(list, "on change")
	}
	if loops {
		list = append(list, "on a cycle")
	}
	return list
}

// extras are what a send rule says beyond the columns, defaults left out.
func extras(r mapping.SendRule, h *host) (list []string) {
	p := h.place(r.Binding)
	switch {
	case p.pending():
		list = append(list, "pending")
	case p.err != nil:
		list = append(list, "refused")
	}
	b := r.Binding
	if b.SourcePort != 0 {
		list = append(list, fmt.Sprintf("source port %d", b.SourcePort))
	}
	if b.DSCP != 0 {
		list = append(list, fmt.Sprintf("dscp %d", b.DSCP))
	}
	if !b.Loopback {
		list = append(list, "no loopback")
	}
	if !r.Payload.Raw() {
		list = append(list, "payload "+r.Payload.String())
	}
	if r.Retained != mapping.RetainedOnce {
		list = append(list, "retained "+r.Retained.String())
	}
	if r.OnDown != mapping.DefaultOnDown(r.QoS) {
		list = append(list, "on down "+r.OnDown.String())
	}
	if !b.Fragment {
		list = append(list, dropAbove(p))
	}
	return list
}

func dropAbove(p place) string {
	if p.err != nil {
		return "drop above the mtu"
	}
	return fmt.Sprintf("drop above %d bytes", room(p.source))
}
