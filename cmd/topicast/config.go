package main

import (
	"github.com/spf13/cobra"

	"topicast/configs"
)

func newConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the commented reference configuration",
		Long: `Print the reference configuration: every key with its default, its unit and its
meaning. It is a configuration itself, to be edited into one's own.

Every key outside of lists can be overridden: broker.url by the variable
TOPICAST_BROKER_URL, and that by the flag --broker-url of topicast run.`,
		Example: `  topicast config
  topicast config > topicast.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(configs.Reference)
			return err
		},
	}
}
