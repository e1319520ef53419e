//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"topicast/bridge/netlab"
)

func main() {
	netlab.Join()
	o, err := readFlags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "topicast-faults: error:", err)
		os.Exit(2)
	}
	os.Exit(execute(o))
}

// options are what the flags say.
type options struct {
	acts     []act
	rate     int
	times    times
	parallel int
	markdown bool
	logs     string
	topicast string
	soak     time.Duration
}

func readFlags(args []string, usage io.Writer) (options, error) {
	o := options{times: thorough}
	var only string
	var short bool
	f := flag.NewFlagSet("topicast-faults", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&only, "only", "", "the `names` of the faults to run, parted by commas; * stands for anything; carrier/send is one way of a fault")
	f.BoolVar(&short, "quick", false, "everything short, and four faults at a time")
	f.BoolVar(&o.markdown, "markdown", false, "print the table in Markdown")
	f.IntVar(&o.rate, "rate", 1000, "messages a `second`, 10 to 20000")
	down := f.Duration("down", 0, "how long the interface in isolation and the broker in broker-gone are away, 1s to 1h; 0: 1m, or 4s with --quick")
	f.IntVar(&o.parallel, "parallel", 0, "how many faults at a time, 1 to 16; 0: 1, or 4 with --quick. Latencies are good only with 1")
	f.StringVar(&o.logs, "keep-logs", "", "the `folder` for what topicast and mosquitto said, one file each")
	f.StringVar(&o.topicast, "topicast", "", "the `program` to judge; empty: built from this module")
	f.DurationVar(&o.soak, "soak", 0, "instead of the table: faults at random for so long, and what topicast uses meanwhile, 10s to 24h")
	f.Usage = func() {
		fmt.Fprintf(usage, "Shows what topicast does when things fail.\n\nUsage:\n  topicast-faults [flags]\n\nFlags:\n")
		f.PrintDefaults()
		fmt.Fprintf(usage, "\nFaults:\n")
		for _, ft := range faults {
			fmt.Fprintf(usage, "  %-22s %s\n", ft.name, ft.about)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if short {
		o.times = quick
	}
	if *down != 0 {
		o.times.down = *down
	}
	if o.parallel == 0 {
		o.parallel = 1
		if short {
			o.parallel = 4
		}
	}
	var err error
	o.acts, err = choose(only)
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rate < 10 || o.rate > 20000:
		err = fmt.Errorf("--rate %d is not 10 to 20000", o.rate)
	case o.times.down < time.Second || o.times.down > time.Hour:
		err = fmt.Errorf("--down %v is not 1s to 1h", o.times.down)
	case o.parallel < 1 || o.parallel > 16:
		err = fmt.Errorf("--parallel %d is not 1 to 16", o.parallel)
	case o.soak != 0 && (o.soak < 10*time.Second || o.soak > 24*time.Hour):
		err = fmt.Errorf("--soak %v is not 10s to 24h", o.soak)
	}
	return o, err
}

// dirVar passes the folder with what is built on to the copy of this process that
// netlab starts in namespaces of its own.
const dirVar = "TOPICAST_FAULTS_DIR"

func execute(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if os.Getenv(dirVar) == "" {
		dir, err := os.MkdirTemp("", "topicast-faults-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = compile(ctx, dir, o.topicast)
		}
		if err != nil {
			say("error: %v", err)
			return 1
		}
		os.Setenv(dirVar, dir)
	}
	return netlab.Enter(inside(func() int {
		ok, err := perform(ctx, os.Getenv(dirVar), o)
		if err != nil {
			say("error: %v", err)
			return 1
		}
		if !ok {
			return 1
		}
		return 0
	})).Run()
}

func perform(ctx context.Context, dir string, o options) (ok bool, err error) {
	b, err := newBuild(ctx, dir)
	if err != nil {
		return false, err
	}
	if o.soak > 0 {
		return soak(ctx, b, dir, o, os.Stdout)
	}
	rows := playAll(ctx, b, dir, o)
	print := printTable
	if o.markdown {
		print = printMarkdown
	}
	print(os.Stdout, rows)
	return !strings.Contains(verdicts(rows), "FAIL"), ctx.Err()
}

// inside is what netlab runs in the namespaces.
type inside func() int

func (f inside) Run() int { return f() }

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "topicast-faults: "+format+"\n", args...)
}
