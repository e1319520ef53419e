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

var program = harness.Program{Name: "attack", About: "Shows what topicast does under attack.", Heading: "Attacks"}

func init() {
	for _, a := range attacks {
		program.Choices = append(program.Choices, harness.Choice{Name: a.name, About: a.about})
	}
}

func main() { program.Main(&options{}) }

// options are what the flags say.
type options struct {
	only     string
	attacks  []attack // that it chooses
	quick    bool
	times    times
	parallel int
	markdown bool
	json     bool
	logs     string
}

// times is how long everything takes, and how much of it there is.
type times struct {
	before time.Duration // honest traffic before the attack
	attack time.Duration // one that has no time of its own
	heal   time.Duration // until it counts as never healed
	share  int           // one in how many of what an attack has a number of
}

var (
	fullTimes  = times{before: 3 * time.Second, attack: 10 * time.Second, heal: 30 * time.Second, share: 1}
	quickTimes = times{before: time.Second, attack: 3 * time.Second, heal: 8 * time.Second, share: 4}
)

func (o *options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.only, "only", "", "the `names` of the attacks to run, parted by commas; * stands for anything, as in broker-*")
	f.BoolVar(&o.quick, "quick", false, "everything shorter, and two attacks at a time: about three minutes")
	f.BoolVar(&o.markdown, "markdown", false, "print the table in Markdown")
	f.BoolVar(&o.json, "json", false, "print the rows as JSON")
	f.IntVar(&o.parallel, "parallel", 0, "how many attacks at a time, 1 to 8; 0: 1, or 2 with --quick")
	f.StringVar(&o.logs, "keep-logs", "", "the `folder` for what topicast and mosquitto printed, one file each")
}

func (o *options) Check() (err error) {
	o.times = fullTimes
	parallel := 1
	if o.quick {
		o.times, parallel = quickTimes, 2
	}
	o.parallel = cmp.Or(o.parallel, parallel)
	o.attacks, err = harness.Choose(o.only, attacks, func(a attack) []string { return []string{a.name} })
	if o.json && o.markdown {
		err = cmp.Or(err, fmt.Errorf("--json and --markdown are one too many"))
	}
	return cmp.Or(harness.Range("parallel", o.parallel, 1, 8), err)
}

// Build has nothing to do: topicast is all that is needed.
func (o *options) Build(context.Context, string) error { return nil }

func (o *options) Run(ctx context.Context, dir string) error {
	rows := runAll(ctx, dir, *o)
	print := printTable
	switch {
	case o.markdown:
		print = printMarkdown
	case o.json:
		print = printJSON
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
		return fmt.Errorf("%d of %d attacks did harm", n, len(rows))
	}
	return nil
}
