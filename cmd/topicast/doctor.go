package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge"
	"topicast/bridge/doctor"
	"topicast/bridge/web"
	"topicast/configs"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	config, rule, on, source string
	window                   time.Duration
	json                     bool
}

// mostWindow bounds how long doctor listens: longer than any querier's interval (RFC 3376, 8.2).
const mostWindow = 10 * time.Minute

func newDoctorCommand() *cobra.Command {
	o := doctorOptions{window: 5 * time.Second}
	c := &cobra.Command{
		Use:   "doctor [TOPIC|GROUP:PORT]",
		Short: "Find out why nothing arrives, or leaves",
		Long: `Find out why nothing arrives, or leaves: name the cause, what shows it, and the
command that mends it. It looks at what the rules of the configuration need of this
host, at what the running topicast says of itself (by its control socket, or web.listen), and for some
seconds at what comes in: at the counters of the kernel, at what reaches a socket
of its own, and at the wire.

It only looks: nothing is changed and nothing is sent but for a self-test of each
source that does not leave the host, and the reports of the groups that it joins
for the while. Anybody may run it; as root it also reads the rules of the firewall
and sees what comes to an interface and reaches no socket. What it cannot see it
says. Commands below fix are for you to run.

TOPIC is one as it is published: the rules that it matches, and that publish on it.
GROUP:PORT are the rules with that group. With --interface or --source there is no
configuration: of the group it looks at what comes in by the interface, and at what
leaves from the source. Without either it is all rules, of which the first 32 groups
are listened for; of a rule with many groups the first 4, and as root 4 more that
something comes for.

Longer than two minutes (--for 135s) shows who listens, where a querier asks.

With --json the result is one document:

  {"ok": false,
   "findings": [{"cause": "no_carrier", "of": ["rule lamps (send[0])"],
     "text": "interface iso0 has no carrier", "evidence": ["…"], "fix": "…"}],
   "healthy": ["source"], "seen": [], "unseen": ["…"]}

docs/doctor.md has every cause, what makes it, and what mends it.

Exit status: 0 nothing is found; 1 a cause is found, or it cannot look; 64 wrong
usage.`,
		Example: `  topicast doctor
  topicast doctor --rule lamps --config gateway.yaml
  topicast doctor site/3/lamp/7/set --for 10s
  topicast doctor 239.1.2.3:5000 --interface lo --for 1s`,
		RunE: func(c *cobra.Command, args []string) error {
			return runDoctor(c.Context(), o, strings.Join(args, ""), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.config, "config", "c", "", "the configuration `file`")
	f.StringVar(&o.rule, "rule", "", "this `rule` only, by its name")
	f.StringVar(&o.on, "interface", "", "without a configuration: the `name` of the interface, or an address of it")
	f.StringVar(&o.source, "source", "", "without a configuration: the `address` of this host to send from")
	f.DurationVar(&o.window, "for", o.window, "how long to listen")
	f.BoolVar(&o.json, "json", false, "print one JSON document")
	return c
}

func runDoctor(ctx context.Context, o doctorOptions, what string, out, errOut io.Writer) error {
	if o.window < 0 || o.window > mostWindow {
		return usageError(fmt.Errorf("--for %v: it is 0s to %v", o.window, mostWindow))
	}
	if o.rule != "" && what != "" {
		return usageError(fmt.Errorf("--rule %s and %s exclude each other", shellWord(o.rule), shellWord(what)))
	}
	h, err := newHost()
	if err != nil {
		return err
	}
	var subjects []*doctor.Subject
	look := doctor.Options{Window: o.window}
	if o.on != "" || o.source != "" {
		if o.config != "" || o.rule != "" {
			return usageError(errors.New("--interface and --source are for a group without a configuration: leave out --config and --rule"))
		}
		subjects, err = o.withoutRules(what, h)
	} else {
		subjects, look, err = o.ofRules(ctx, what, h)
	}
	if err != nil {
		return err
	}
	if !o.json && o.window > 0 {
		fmt.Fprintf(errOut, "looking for %v\n", o.window)
	}
	var report doctor.Report
	if len(subjects) == 0 {
		report = doctor.Report{Findings: []doctor.Finding{noRule(what)}, Healthy: []string{}, Seen: []string{}, Unseen: []string{}}
	} else {
		s, err := doctor.Look(ctx, subjects, look)
		if errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		if err != nil {
			return err
		}
		report = doctor.Examine(s, subjects)
	}
	if o.json {
		err = printDiagnosis(out, report)
	} else {
		tellDiagnosis(out, report)
	}
	if err == nil && len(report.Findings) > 0 {
		err = errSaid
	}
	return err
}

// noRule is the cause where no rule has the topic or group.
func noRule(what string) doctor.Finding {
	word := "topicast explain " + shellWord(what)
	return doctor.Finding{Cause: doctor.NoRule, Of: []string{printable(what)}, Text: "no rule of the configuration has it: nothing is sent, and nothing listened for",
		Evidence: []string{}, Fix: word + " shows which rules come nearest"}
}

// askPatience is how long the running bridge may take to say how it is.
const askPatience = 5 * time.Second

// asking is how the running bridge of a configuration is asked, and where: by its control socket, or
// by its web page where there is none that this user may use. nil: by neither.
func asking(ctx context.Context, cfg *configs.Config, file string) (at string, ask func(context.Context) (*bridge.Status, error)) {
	byWeb := func(ctx context.Context) (*bridge.Status, error) {
		ctx, cancel := context.WithTimeout(ctx, askPatience)
		defer cancel()
		return web.Fetch(ctx, cfg.Web.Listen)
	}
	by := controlOptions{file: file}
	c, err := by.dial(ctx)
	switch {
	case err == nil:
		return c.Path, func(ctx context.Context) (*bridge.Status, error) {
			patient, cancel := context.WithTimeout(ctx, askPatience)
			defer cancel()
			s, err := statusOf(patient, c, nil)
			if err != nil && cfg.Web.Listen != "" {
				return byWeb(ctx)
			}
			return &s, err
		}
	case cfg.Web.Listen != "":
		return cfg.Web.Listen, byWeb
	case cfg.Control.Listen != "" && !cfg.Control.Auto():
		return cfg.Control.Path(), func(context.Context) (*bridge.Status, error) { return nil, err }
	}
	return "", nil
}

func printDiagnosis(out io.Writer, r doctor.Report) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		OK bool `json:"ok"`
		doctor.Report
	}{len(r.Findings) == 0, r})
}

// tellDiagnosis prints the verdict first.
func tellDiagnosis(out io.Writer, r doctor.Report) {
	line := func(format string, args ...any) {
		fmt.Fprintln(out, strings.ReplaceAll(harmless(fmt.Sprintf(format, args...)), "\n", " "))
	}
	if len(r.Findings) == 0 {
		line("cause: none found on this host")
	}
	for _, f := range r.Findings {
		line("cause: %s: %s", f.Cause, f.Text)
		line("  of:   %s", someOf(f.Of))
		for _, e := range f.Evidence {
			if e != "" {
				line("  seen: %s", e)
			}
		}
		line("  fix:  %s", f.Fix)
	}
	if len(r.Healthy) > 0 {
		line("healthy: %s", strings.Join(r.Healthy, ", "))
	}
	for _, s := range r.Seen {
		line("seen: %s", s)
	}
	for _, u := range r.Unseen {
		line("not seen: %s", u)
	}
}

// someOf names the first rules of many.
func someOf(rules []string) string {
	const most = 8
	text := strings.Join(rules[:min(len(rules), most)], ", ")
	if more := len(rules) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
