//go:build linux

package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"topicast/internal/lab/harness"
)

var program = harness.Program{Name: "faults", About: "Shows what topicast does when things fail.", Heading: "Faults"}

func init() {
	for _, f := range faults {
		program.Choices = append(program.Choices, harness.Choice{Name: f.name, About: f.about})
	}
}

func main() { program.Main(&options{}) }

// options are what the flags say.
type options struct {
	only      string
	scenarios []scenario // that it chooses
	quick     bool
	down      time.Duration
	times     times
	rate      int
	parallel  int
	markdown  bool
	logs      string
	soak      time.Duration
	clock     bool // the machine's may be stepped
}

func (o *options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.only, "only", "", "the `names` of the faults to run, parted by commas; * stands for anything; carrier/send is one way of a fault")
	f.BoolVar(&o.quick, "quick", false, "everything short, and four faults at a time")
	f.BoolVar(&o.markdown, "markdown", false, "print the table in Markdown")
	f.IntVar(&o.rate, "rate", 1000, "messages a `second`, 10 to 20000")
	f.DurationVar(&o.down, "down", 0, "how long the interface in isolation and the broker in broker-gone are away, 1s to 1h; 0: 1m, or 4s with --quick")
	f.IntVar(&o.parallel, "parallel", 0, "how many faults at a time, 1 to 16; 0: 1, or 4 with --quick. Latencies are good only with 1")
	f.StringVar(&o.logs, "keep-logs", "", "the `folder` for what topicast and mosquitto printed, one file each")
	f.DurationVar(&o.soak, "soak", 0, "instead of the table: faults at random for so long, and what topicast uses meanwhile, 10s to 24h")
	f.BoolVar(&o.clock, "step-clock", false, "run the faults too that set this machine's clock wrong by 5 h, and right at their end; they need root")
}

func (o *options) Check() (err error) {
	o.times = fullTimes
	parallel := 1
	if o.quick {
		o.times, parallel = quickTimes, 4
	}
	o.times.down = cmp.Or(o.down, o.times.down)
	o.parallel = cmp.Or(o.parallel, parallel)
	if o.scenarios, err = choose(o.only); err != nil {
		return err
	}
	if o.soak != 0 {
		err = harness.Range("soak", o.soak, 10*time.Second, 24*time.Hour)
	}
	return cmp.Or(harness.Range("rate", o.rate, 10, 20000), harness.Range("down", o.times.down, time.Second, time.Hour),
		harness.Range("parallel", o.parallel, 1, 16), err)
}

// Build has nothing to do: topicast is all that is needed.
func (o *options) Build(context.Context, string) error { return nil }

func (o *options) Run(ctx context.Context, dir string) error {
	b, err := newBuild(ctx, dir)
	if err != nil {
		return err
	}
	if o.soak > 0 {
		return soak(ctx, b, dir, *o, os.Stdout)
	}
	b.has[steppedClock] = o.clock
	rows := runAll(ctx, b, dir, *o)
	print := printTable
	if o.markdown {
		print = printMarkdown
	}
	print(os.Stdout, rows)
	return cmp.Or(ctx.Err(), failed(rows))
}

// failed is an error if one of the rows shows a failure.
func failed(rows []row) error {
	n := 0
	for _, r := range rows {
		if len(r.faulty()) > 0 {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d rows failed", n, len(rows))
	}
	return nil
}
