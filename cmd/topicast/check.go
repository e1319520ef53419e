package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"topicast/configs"
	"topicast/mapping"
)

// checkOptions are the flags of check.
type checkOptions struct {
	files                       []string
	quiet, strict, json, noHost bool
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check [FILE]...",
		Short: "Check configurations and print their rules",
		Long: `Check configurations, print their rules in a table for each direction, and what
to think about again as warnings. Nothing is opened to the network and nothing is sent.

All faults are reported at once, each with its file, line, column and key, and so
are those of variables of the environment. What only this host can tell is checked
too. Faults are what cannot work as it is: a source that is not on the interface
named, or that is the broadcast address of its network; a private key of another
certificate, a certificate that has expired, a password file that is empty; a status
page at an address that this host does not have. Warnings are what may be otherwise
by the time or for the user that topicast runs as: an interface, an address or a file
that is absent, a file that cannot be read, a folder for the spool that is not there
or cannot be written. So are a secret that all users may read, a route that would
hand a group to a gateway, though topicast does not follow it, and a limit of open
files that is too low for the groups to listen to. Notes are about what a host is like
as it comes, such as a small receive buffer. topicast run says the same of this host at
its start, and starts all the same, unless it is the status page.

With --no-host the file alone is checked, as on a laptop or in a pipeline the file of
a gateway. With --strict warnings are faults, and notes are none.

With --json the result is one document, and nothing goes to stderr:

  {"ok": false, "faults": 1, "warnings": 0,
   "files": [{"file": "gateway.yaml", "ok": false}],
   "findings": [{"severity": "error", "scope": "file", "file": "gateway.yaml",
     "variable": "", "line": 7, "column": 12, "key": "send[0].ttl",
     "message": "300 is out of range: 1 to 255", "hint": ""}]}

Every field is always there; more may be added. severity is error, warning (never with
--strict) or note. scope is file, environment (of a variable, whose name is
in variable) or host (what --no-host leaves out). line and column count from 1, and are
0 where there is none; a text is "" where there is none.

Without FILE it is the file that topicast run would take: $TOPICAST_CONFIG,
./topicast.yaml or /etc/topicast/topicast.yaml, the first there is.

Exit status: 0 all files are good, though there may be warnings; 1 there are
faults; 64 wrong usage.`,
		Example: `  topicast check
  topicast check gateway.yaml
  topicast check --no-host --strict --json gateway.yaml
  topicast check --config gateway.yaml`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml", "toml", "json"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.files = append(o.files, args...)
			return runCheck(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.files, "config", "c", nil, "a `file` to check, as if given as FILE; may be repeated")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but faults and warnings")
	f.BoolVar(&o.strict, "strict", false, "take warnings for faults")
	f.BoolVar(&o.json, "json", false, "print one JSON document")
	f.BoolVar(&o.noHost, "no-host", false, "check the file alone, and nothing of this host")
	return c
}

// runCheck checks every file, and fails if one has a fault.
func runCheck(ctx context.Context, o checkOptions, out, errOut io.Writer) error {
	if len(o.files) == 0 {
		o.files = []string{""} // the file that run would take
	}
	h := &host{unseen: true}
	if !o.noHost {
		var err error
		if h, err = newHost(); err != nil {
			return err
		}
	}
	tables, said := out, errOut
	if o.json {
		tables, said = io.Discard, io.Discard
	} else if o.quiet {
		tables = io.Discard
	}
	r := checkReport{strict: o.strict, quiet: o.quiet}
	checked := 0
	for _, file := range o.files {
		cfg, err := loadUntil(ctx, file, nil)
		if errors.Is(err, errEnded) {
			return err
		}
		if err != nil {
			faults := faultsOf(file, err)
			r.begin(cmp.Or(file, faults[0].Origin))
			r.add(scopeFile, severityError, faults)
			continue
		}
		if checked++; checked > 1 {
			fmt.Fprintln(tables)
		}
		checkFile(cfg, h, &r, tables, said)
	}
	if o.json {
		if err := r.printJSON(out); err != nil {
			return err
		}
	} else if r.printFaults(errOut); r.faultsOfHost() {
		printHint(errOut, "what is about this host, and not about the file, is left out by topicast check --no-host")
	}
	if r.failed() {
		return errSaid
	}
	return nil
}

func faultsOf(file string, err error) configs.Errors {
	if faults, ok := errors.AsType[configs.Errors](err); ok {
		return faults
	}
	return configs.Errors{{Origin: file, Err: err}}
}

// checkFile prints what a configuration comes to on this host, and reports what there
// is to say of it.
func checkFile(cfg *configs.Config, h *host, r *checkReport, out, errOut io.Writer) {
	h.know(cfg)
	r.begin(cfg.File)
	warnings := r.add(scopeFile, severityWarning, cfg.Warnings)
	var notes configs.Errors
	if !h.unseen {
		hostFaults, hostWarnings := h.examineAll(cfg)
		r.add(scopeHost, severityError, hostFaults)
		warnings = append(warnings, r.add(scopeHost, severityWarning, hostWarnings)...)
		notes = r.add(scopeHost, severityNote, located(cfg, append(h.examineBuffers(cfg.Table), h.examineSharers(cfg.Table.Receive())...)))
	}
	send, receive := cfg.Table.Send(), cfg.Table.Receive()
	way := ""
	if p := cfg.Broker.Proxy.URL; p != "" {
		way = ", through " + p
	}
	if b := cfg.Broker.Bind; b != "" {
		way += ", by " + b
	}
	fmt.Fprintf(out, "%s: broker %s, as %s%s\n\n", cfg.File, cfg.Broker.URLs.Shown(), cfg.Broker.ClientID, way)
	// The output is watched.
	if len(send) > 0 {
		_ = printSend(out, cfg, h)
		fmt.Fprintln(out)
	}
	if len(receive) > 0 {
		_ = printReceive(out, cfg, h)
		fmt.Fprintln(out)
	}
	for _, w := range warnings {
		printWarning(errOut, w)
		printHint(errOut, w.Hint)
	}
	if r.quiet {
		notes = nil
	}
	for _, n := range notes {
		printNote(errOut, n)
		printHint(errOut, n.Hint)
	}
	fmt.Fprintf(out, "%s: %s\n", sum(cfg.Table), r.verdict())
}

// sum is "3 send rules, 2 bindings, 2 subscriptions; 1 receive rule, 63 sockets".
func sum(t *mapping.Table) string {
	var halves []string
	if send := t.Send(); len(send) > 0 {
		halves = append(halves, fmt.Sprintf("%s, %s, %s", count(len(t.Configured().Send()), "send rule"), count(bindings(send), "binding"),
			count(len(t.Subscriptions()), "subscription")))
	}
	if receive := t.Receive(); len(receive) > 0 {
		halves = append(halves, fmt.Sprintf("%s, %s", count(len(t.Configured().Receive()), "receive rule"), count(sockets(receive), "socket")))
	}
	return strings.Join(halves, "; ")
}

// bindings is how many sockets send rules need.
func bindings(rules []mapping.SendRule) int {
	distinct := make(map[mapping.Binding]bool)
	for _, r := range rules {
		distinct[r.Binding] = true
	}
	return len(distinct)
}

// printSend prints a line for each send rule, and interface of it, with source and interface as they
// are on this host now.
func printSend(out io.Writer, cfg *configs.Config, h *host) error {
	keys := moreThan(configs.SendKeys(), "name", "filter", "qos", "group", "host", "source", "interface", "ttl")
	t := newTable("SEND", "FILTER", "QOS", "TO", "SOURCE", "INTERFACE", "TTL", "STATE", "MORE")
	for i, r := range cfg.Table.Send() {
		source, on := mapping.PrefixText(r.Binding.Source), cmp.Or(r.Binding.Interface, "-")
		if p := h.place(r.Binding); p.err == nil {
			source, on = p.source.Addr.String(), p.source.Interface
		}
		t.row(r.Common, r.Filter, r.QoS, r.To(), source, on, r.Binding.TTL, h.sendState(&r), strings.Join(given(cfg, "send", cfg.Table.SendPlace(i), keys, &r), ", "))
	}
	return t.print(out)
}

// printReceive prints a line for each receive rule, and interface of it, with the interface as it is
// on this host now.
func printReceive(out io.Writer, cfg *configs.Config, h *host) error {
	keys := moreThan(configs.ReceiveKeys(), "name", "group", "port", "interface", "source", "topic", "qos")
	t := newTable("RECEIVE", "GROUPS", "INTERFACE", "SOURCES", "TOPIC", "QOS", "STATE", "MORE")
	for i, r := range cfg.Table.Receive() {
		e, more := h.listener(r), given(cfg, "receive", cfg.Table.ReceivePlace(i), keys, &r)
		if cfg.Table.ReceiveLoops(i) {
			more = append(more, "on a cycle")
		}
		t.row(r.Common, r.Heard(), cmp.Or(e.on.Name, r.Interface),
			sourceList(r.Sources), r.Topic, r.QoS, h.state(e.pending(), e.err), strings.Join(more, ", "))
	}
	return t.print(out)
}

// state is what a rule would be on this host now, in a column of a table.
func (h *host) state(pending bool, err error) string {
	switch {
	case h.unseen:
		return "-"
	case pending:
		return "pending"
	case err != nil:
		return "refused"
	}
	return "ok"
}

// moreThan are the keys that have no column of their own.
func moreThan(keys []configs.Key, columns ...string) []configs.Key {
	return slices.DeleteFunc(keys, func(k configs.Key) bool { return slices.Contains(columns, k.Name) })
}

// given is what a rule says by these keys in the file, defaults left out.
func given(cfg *configs.Config, list string, i int, keys []configs.Key, rule any) (texts []string) {
	for _, k := range keys {
		if !cfg.Gives(list, i, k.Name) {
			continue
		}
		if value := strings.Join(k.Values(rule), " "); value != k.Default() {
			texts = append(texts, k.Name+" "+value)
		}
	}
	return texts
}
