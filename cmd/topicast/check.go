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
		Long: `Check configurations, print their rules as a table, and what to think about
again as warnings. Nothing is opened and nothing is sent.

All faults are reported at once, each with its file, line, column and key. What
only this host can tell is checked too: a source that is not on the interface
named, or that is the broadcast address of its network, is a fault; an interface
or an address that is absent now is a warning, as the rule waits for it.

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
	rules := cfg.Table.Send()
	faults, warnings := h.examine(rules)
	fmt.Fprintf(out, "%s: from %s as %s\n\n", cfg.File, strings.Join(cfg.Broker.URLs, ", "), cfg.Broker.ClientID)
	_ = printRules(out, rules, h) // the output is watched
	for _, w := range slices.Concat(cfg.Warnings, located(cfg, warnings)) {
		printWarning(errOut, w)
	}
	verdict := "ok"
	if len(faults) > 0 {
		verdict = count(len(faults), "fault")
	}
	fmt.Fprintf(out, "\n%s, %s, %s: %s\n", count(len(rules), "rule"), count(bindings(rules), "binding"),
		count(len(cfg.Table.Subscriptions()), "subscription"), verdict)
	return located(cfg, faults)
}

// located says where in the file each finding is.
func located(cfg *configs.Config, findings []finding) (list configs.Errors) {
	for _, f := range findings {
		line, column := cfg.At(f.path)
		list = append(list, &configs.Error{Origin: cfg.File, Line: line, Column: column, Path: f.path, Err: f.err, Hint: f.hint})
	}
	return list
}

// bindings is how many sockets the rules need.
func bindings(rules []mapping.SendRule) int {
	distinct := make(map[mapping.Binding]bool)
	for _, r := range rules {
		distinct[r.Binding] = true
	}
	return len(distinct)
}

// printRules prints a line for each rule, with source and interface as they are
// on this host now.
func printRules(out io.Writer, rules []mapping.SendRule, h *host) error {
	t := newTable("RULE", "FILTER", "QOS", "GROUP", "SOURCE", "INTERFACE", "TTL", "MORE")
	for i, r := range rules {
		source, on := sourceText(r.Binding.Source), cmp.Or(r.Binding.Interface, "-")
		if p := h.place(r.Binding); p.err == nil {
			source, on = p.source.Addr.String(), p.source.Interface
		}
		t.row(ruleName(i, r), r.Filter, r.QoS, r.Group, source, on, r.Binding.TTL, strings.Join(extras(r, h), ", "))
	}
	return t.print(out)
}

// ruleName is the rule's name, or its place where the name is only the filter
// again.
func ruleName(i int, r mapping.SendRule) string {
	if r.Name == r.Filter.String() {
		return fmt.Sprintf("send[%d]", i)
	}
	return r.Name
}

// extras are what a rule says beyond the columns, defaults left out.
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
