package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"topicast/bridge/control"
)

func newFlushCommand() *cobra.Command {
	var o flushOptions
	c := &cobra.Command{
		Use:   "flush [RULE]",
		Short: "Discard what waits for a rule of the running bridge",
		Long: `Have the running topicast discard what waits for a rule, in memory and in the spool:
messages for an interface that is away, datagrams for a broker that is. They do not
leave any more: this is not what mail servers call a flush. Each counts as lost, with
the reason "flushed"; what the broker still waits for is acknowledged.

Without --yes nothing is discarded, and it is told how much that would be. What comes
meanwhile stays, and so does what is just being passed on, such as what was handed to
the connection with the broker. RULE may be one that the configuration has no more; of a
rule with several interfaces all are meant, or one as NAME@INTERFACE.

` + controlUsage + `

Exit status: 0 what waited is discarded, or nothing waited; 1 not all of it, or --yes
is missing; 64 wrong usage.`,
		Example: `  topicast flush lamps
  topicast flush lamps --yes
  topicast flush --all --yes`,
		RunE: func(c *cobra.Command, args []string) error {
			return runFlush(c.Context(), o, args, c.OutOrStdout(), c.ErrOrStderr())
		},
		ValidArgsFunction: completeRule,
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVar(&o.all, "all", false, "of all rules")
	f.BoolVar(&o.yes, "yes", false, "discard it")
	o.addFlags(f)
	return c
}

type flushOptions struct {
	controlOptions
	all, yes bool
}

func runFlush(ctx context.Context, o flushOptions, args []string, out, errOut io.Writer) error {
	rule := ""
	switch {
	case len(args) > 0 && o.all:
		return usageError(errors.New("a rule and --all: want one of them"))
	case len(args) > 0:
		rule = args[0]
	case !o.all:
		return usageError(errors.New("whose? name a rule, or --all"))
	}
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	if !o.yes {
		return wouldFlush(ctx, c, rule, out)
	}
	flushed, err := c.Flush(ctx, rule, o.all)
	if err != nil {
		return withHint(err, "topicast status --limit 0 lists the rules")
	}
	total, left := 0, 0
	for _, f := range flushed {
		if n := f.Memory + f.Disk; n > 0 {
			total += n
			fmt.Fprintf(out, "discarded: %s: %d in memory, %d on disk\n", printable(f.Rule), f.Memory, f.Disk)
		}
		if f.Left {
			left++
			printNote(errOut, fmt.Sprintf("%s: some are just being passed on, such as to a broker that is away, and stay; what is on disk behind them for the broker is discarded as soon as they are settled", printable(f.Rule)))
		}
	}
	if total == 0 && left == 0 {
		fmt.Fprintln(out, "nothing waits")
	}
	if left > 0 {
		return errSaid
	}
	return nil
}

// wouldFlush tells what waits.
func wouldFlush(ctx context.Context, c *control.Client, rule string, out io.Writer) error {
	query := url.Values{}
	if rule != "" {
		query.Set("match", rule)
	}
	s, err := statusOf(ctx, c, query)
	if err != nil {
		return err
	}
	known, total := rule == "", 0
	tell := func(name, common string, memory, disk int) {
		if rule != "" && name != rule && common != rule {
			return
		}
		known = true
		if memory+disk > 0 {
			total += memory + disk
			fmt.Fprintf(out, "%s: %d in memory, %d on disk\n", printable(name), memory, disk)
		}
	}
	for i := range s.Rules {
		tell(s.Rules[i].Name, s.Rules[i].Rule, s.Rules[i].WaitingMemory, s.Rules[i].WaitingDisk)
	}
	for i := range s.Receive {
		tell(s.Receive[i].Name, s.Receive[i].Rule, s.Receive[i].WaitingMemory, s.Receive[i].WaitingDisk)
	}
	switch {
	case total > 0:
		return withHint(errors.New("nothing is discarded without --yes"), "topicast disable RULE keeps it, and sends nothing meanwhile")
	case !known:
		return withHint(fmt.Errorf("there is no rule %q; --yes discards what an earlier one of this name has left on disk", rule), "topicast status --limit 0 lists the rules")
	}
	_, err = fmt.Fprintln(out, "nothing waits")
	return err
}
