package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newRejoinCommand() *cobra.Command {
	var o controlOptions
	c := &cobra.Command{
		Use:   "rejoin RULE",
		Short: "Have a receive rule of the running bridge join its groups anew",
		Long: `Have the running topicast leave the groups of a receive rule and join them again, so
that routers and switches hear of them: one that has forgotten a group, for want of a
querier or since it was restarted, delivers nothing until then. The sockets stay
open, and what they have received goes on. Other rules that have such a group on the
same interface share its socket, so that it is joined anew for them too.

` + controlUsage,
		Example: `  topicast rejoin meters`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runRejoin(c.Context(), o, args[0], c.OutOrStdout())
		},
		ValidArgsFunction: completeReceiveRule,
	}
	o.addFlags(c.Flags())
	return c
}

func runRejoin(ctx context.Context, o controlOptions, rule string, out io.Writer) error {
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	rules, err := c.Rejoin(ctx, rule)
	if err != nil {
		return withRules(err)
	}
	_, err = fmt.Fprintf(out, "joins anew: %s\n", printable(strings.Join(rules, ", ")))
	return err
}
