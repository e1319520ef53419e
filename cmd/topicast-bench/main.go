//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"topicast/bridge/netlab"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "tool" {
		os.Exit(runTool(os.Args[2:]))
	}
	o, err := readFlags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "topicast-bench: error:", err)
		os.Exit(2)
	}
	os.Exit(execute(o))
}

// options are what the flags say.
type options struct {
	scenarios []scenario
	rounds    int
	seconds   float64
	messages  int
	quick     bool
	json      bool
	topicast  string
}

func readFlags(args []string, usage io.Writer) (options, error) {
	var o options
	var only, peers string
	f := flag.NewFlagSet("topicast-bench", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&only, "only", "", "the `names` of the scenarios to run, parted by commas; * stands for anything, as in send-*")
	f.StringVar(&peers, "peers", "", "the `names` of those to measure, parted by commas; empty: all")
	f.IntVar(&o.rounds, "rounds", 3, "how often each peer runs in each scenario, 1 to 100")
	f.Float64Var(&o.seconds, "seconds", 2, "how long each run is under load, 0.1 to 60; a search uses a quarter for each rate")
	f.IntVar(&o.messages, "messages", 0, "at most so many messages in each run; 0: no bound")
	f.BoolVar(&o.quick, "quick", false, "one round of 0.2 seconds, few rates and, without --only, few scenarios: to see that it runs, not how fast")
	f.BoolVar(&o.json, "json", false, "print all results as JSON")
	f.StringVar(&o.topicast, "topicast", "", "the `program` to measure; empty: built from this module")
	f.Usage = func() {
		fmt.Fprintf(usage, "Measures topicast beside its peers.\n\nUsage:\n  topicast-bench [flags]\n\nFlags:\n")
		f.PrintDefaults()
		fmt.Fprintf(usage, "\nScenarios:\n")
		for _, s := range scenarios {
			fmt.Fprintf(usage, "  %-22s %s\n", s.name, s.about)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.rounds, o.seconds = 1, 0.2
		only = cmp.Or(only, oneOfEach)
	}
	var patterns []string
	if only != "" {
		patterns = strings.Split(only, ",")
	}
	var err error
	o.scenarios, err = choose(patterns)
	if err == nil && peers != "" {
		o.scenarios, err = among(o.scenarios, strings.Split(peers, ","))
	}
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		err = fmt.Errorf("--rounds %d is not 1 to 100", o.rounds)
	case !(o.seconds >= 0.1 && o.seconds <= 60): // NaN is neither
		err = fmt.Errorf("--seconds %g is not 0.1 to 60", o.seconds)
	case o.messages < 0:
		err = fmt.Errorf("--messages %d is negative", o.messages)
	}
	return o, err
}

// execute builds what is measured, and measures it in a copy of this process
// that netlab starts in namespaces of its own.
func execute(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if os.Getenv(dirVar) == "" {
		dir, err := os.MkdirTemp("", "topicast-bench-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = build(ctx, dir, o.topicast, say)
		}
		if err != nil {
			say("error: %v", err)
			return 1
		}
		if os.Geteuid() != 0 {
			say("not root: the device that counts has a small buffer and may itself lose datagrams; nor can it go before the bridge")
		}
		os.Setenv(dirVar, dir)
	}
	return netlab.Enter(inside(func() int {
		err := keep(func(t testing.TB) error { return measure(ctx, t, o, os.Stdout, say) })
		if err != nil {
			say("error: %v", err)
			return 1
		}
		return 0
	})).Run()
}

// inside is what netlab runs in the namespaces.
type inside func() int

func (f inside) Run() int { return f() }

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "topicast-bench: "+format+"\n", args...)
}
