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
	harness.RunFlags
	attacks []attack // that they choose
	times   times
	json    bool
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

var usage = harness.RunUsage{What: "attacks", Only: ", as in broker-*", Quick: ": about five minutes", AtOnce: 2, Most: 8}

func (o *options) Flags(f *flag.FlagSet) {
	o.RunFlags.Flags(f, usage)
	f.BoolVar(&o.json, "json", false, "print the rows as JSON")
}

func (o *options) Check() (err error) {
	o.times = fullTimes
	if o.Quick {
		o.times = quickTimes
	}
	o.attacks, err = harness.Choose(o.Only, attacks, func(a attack) []string { return []string{a.name} })
	if o.json && o.Markdown {
		err = cmp.Or(err, fmt.Errorf("--json and --markdown are one too many"))
	}
	return cmp.Or(o.RunFlags.Check(usage), err)
}

// Build has nothing to do: topicast is all that is needed.
func (o *options) Build(context.Context, string) error { return nil }

func (o *options) Run(ctx context.Context, dir string) error {
	rows := runAll(ctx, dir, *o)
	switch {
	case o.Markdown:
		harness.PrintMarkdown(os.Stdout, heads, rows)
	case o.json:
		printJSON(os.Stdout, rows)
	default:
		harness.PrintTable(os.Stdout, heads, rows)
	}
	return cmp.Or(ctx.Err(), harness.Failed(rows, "attacks did harm"))
}
