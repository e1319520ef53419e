package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"topicast/bridge/control"
)

func newDisableCommand() *cobra.Command {
	var o controlOptions
	c := &cobra.Command{
		Use:   "disable RULE",
		Short: "Switch a rule of the running bridge off",
		Long: `Have the running topicast carry nothing by a rule until topicast enable, or until it
starts again; a reload of the configuration changes nothing of it.

Messages for a send rule that is disabled are acknowledged and counted as filtered, with
the reason "disabled"; nothing is repeated or refreshed. What waits for it, in memory and
on disk, stays, and leaves once the rule is enabled. A receive rule that is disabled
leaves its groups, and what it has received goes on to the broker. Other rules do not
notice. A shared subscription ends, so that the broker gives its messages to others.

Of a rule with several interfaces all are meant, or one as NAME@INTERFACE. topicast
status shows what is disabled, and by whom.

` + controlUsage,
		Example: `  topicast disable lamps`,
		RunE: func(c *cobra.Command, args []string) error {
			return runDisable(c.Context(), o, args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
		ValidArgsFunction: completeRule,
	}
	o.addFlags(c.Flags())
	return c
}

func newEnableCommand() *cobra.Command {
	var o controlOptions
	c := &cobra.Command{
		Use:   "enable RULE",
		Short: "Switch a rule of the running bridge on again",
		Long: `Have the running topicast carry messages by a rule again that topicast disable has
switched off. What has waited for it leaves first.

` + controlUsage,
		Example: `  topicast enable lamps`,
		RunE: func(c *cobra.Command, args []string) error {
			return runEnable(c.Context(), o, args[0], c.OutOrStdout())
		},
		ValidArgsFunction: completeRule,
	}
	o.addFlags(c.Flags())
	return c
}

func runDisable(ctx context.Context, o controlOptions, rule string, out, errOut io.Writer) error {
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	rules, err := c.Disable(ctx, rule)
	if err != nil {
		return withRules(err)
	}
	fmt.Fprintf(out, "disabled: %s\n", printable(strings.Join(rules, ", ")))
	memory, disk, err := waitingOf(ctx, c, rule, rules)
	if err == nil && memory+disk > 0 {
		printNote(errOut, fmt.Sprintf("%d messages of it wait in memory and %d on disk, until it is enabled; the broker sends no more than its window while it waits for their acknowledgements", memory, disk))
	}
	return nil
}

// waitingOf is how many messages wait for some send rules.
func waitingOf(ctx context.Context, c *control.Client, match string, rules []string) (memory, disk int, err error) {
	s, err := statusOf(ctx, c, url.Values{"match": {match}})
	if err != nil {
		return 0, 0, err
	}
	for i := range s.Rules {
		if r := &s.Rules[i]; slices.Contains(rules, r.Name) {
			memory, disk = memory+r.WaitingMemory, disk+r.WaitingDisk
		}
	}
	return memory, disk, nil
}

func runEnable(ctx context.Context, o controlOptions, rule string, out io.Writer) error {
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	rules, err := c.Enable(ctx, rule)
	if err != nil {
		return withRules(err)
	}
	_, err = fmt.Fprintf(out, "enabled: %s\n", printable(strings.Join(rules, ", ")))
	return err
}
