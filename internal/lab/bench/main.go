//go:build linux

package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

var program = harness.Program{Name: "bench", About: "Measures topicast beside its peers.", Heading: "Scenarios"}

func init() {
	for _, s := range scenarios {
		program.Choices = append(program.Choices, harness.Choice{Name: s.name, About: s.about})
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "tool" {
		os.Exit(runTool(os.Args[2:]))
	}
	program.Main(&options{})
}

// options are what the flags say.
type options struct {
	only, peers string
	scenarios   []scenario // that they choose
	rounds      int
	seconds     float64
	messages    int
	quick       bool
	json        bool
	before      string
	protocol    harness.Protocol
}

func (o *options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.only, "only", "", "the `names` of the scenarios to run, parted by commas; * stands for anything, as in send-*")
	f.StringVar(&o.peers, "peers", "", "the `names` of those to measure, parted by commas; empty: all")
	f.IntVar(&o.rounds, "rounds", 3, "how often each peer runs in each scenario, 1 to 100")
	f.Float64Var(&o.seconds, "seconds", 2, "how long each run is under load, 0.1 to 60; a search uses a quarter for each rate")
	f.IntVar(&o.messages, "messages", 0, "at most so many messages in each run; 0: no bound")
	f.BoolVar(&o.quick, "quick", false, "one round of 0.2 seconds, few rates and, without --only, few scenarios: to see that it runs, not how fast")
	f.StringVar(&o.before, "before", "", "another topicast, a `program`, to run in turn with this one, as the peer before")
	harness.ProtocolFlag(f, &o.protocol)
	f.BoolVar(&o.json, "json", false, "print all results as JSON")
}

func (o *options) Check() (err error) {
	if o.quick {
		o.rounds, o.seconds = 1, 0.2
		o.only = cmp.Or(o.only, oneOfEach)
	}
	if o.scenarios, err = harness.Choose(o.only, scenarios, func(s scenario) []string { return []string{s.name} }); err != nil {
		return err
	}
	if o.before != "" {
		if o.before, err = exec.LookPath(o.before); err != nil {
			return fmt.Errorf("--before: %w", err)
		}
		if o.before, err = filepath.Abs(o.before); err != nil {
			return fmt.Errorf("--before: %w", err)
		}
		o.scenarios = withBefore(o.scenarios)
	}
	if o.peers != "" {
		if o.scenarios, err = onlyPeers(o.scenarios, strings.Split(o.peers, ",")); err != nil {
			return err
		}
	}
	if o.messages < 0 {
		err = fmt.Errorf("--messages %d is negative", o.messages)
	}
	return cmp.Or(harness.Range("rounds", o.rounds, 1, 100), harness.Range("seconds", o.seconds, 0.1, 60), err)
}

func (o *options) Build(ctx context.Context, dir string) error {
	if os.Geteuid() != 0 {
		program.Say("not root: the device that counts has a small buffer and may itself lose datagrams; nor can it go before the bridge")
	}
	return build(ctx, dir, program.Say)
}

func (o *options) Run(ctx context.Context, dir string) error {
	return harness.WithT(func(t netlab.T) error { return measure(ctx, t, *o, dir, os.Stdout, program.Say) })
}
