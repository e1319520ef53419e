//go:build linux

package main

import (
	"cmp"
	"context"
	"flag"
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
	harness.RunFlags
	scenarios []scenario // that they choose
	down      time.Duration
	times     times
	rate      int
	soak      time.Duration
	clock     bool // the machine's may be stepped
}

var usage = harness.RunUsage{What: "faults", Only: "; carrier/send is one way of a fault", Parallel: ". Latencies are good only with 1", AtOnce: 4, Most: 16}

func (o *options) Flags(f *flag.FlagSet) {
	o.RunFlags.Flags(f, usage)
	f.IntVar(&o.rate, "rate", 1000, "messages a `second`, 10 to 20000")
	f.DurationVar(&o.down, "down", 0, "how long the interface in isolation and the broker in broker-gone are away, 1s to 1h; 0: 1m, or 4s with --quick")
	f.DurationVar(&o.soak, "soak", 0, "instead of the table: faults at random for so long, and what topicast uses meanwhile, 10s to 24h")
	f.BoolVar(&o.clock, "step-clock", false, "run the faults too that set this machine's clock wrong by 5 h, and right at their end; they need root")
}

func (o *options) Check() (err error) {
	o.times = fullTimes
	if o.Quick {
		o.times = quickTimes
	}
	o.times.down = cmp.Or(o.down, o.times.down)
	if o.scenarios, err = choose(o.Only); err != nil {
		return err
	}
	if o.soak != 0 {
		err = harness.Range("soak", o.soak, 10*time.Second, 24*time.Hour)
	}
	return cmp.Or(harness.Range("rate", o.rate, 10, 20000), harness.Range("down", o.times.down, time.Second, time.Hour),
		o.RunFlags.Check(usage), err)
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
	print := harness.PrintTable[row]
	if o.Markdown {
		print = harness.PrintMarkdown[row]
	}
	print(os.Stdout, heads, rows)
	return cmp.Or(ctx.Err(), harness.Failed(rows, "rows failed"))
}
