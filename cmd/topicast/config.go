package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"topicast/configs"
)

func newConfigCommand() *cobra.Command {
	var env bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the commented reference configuration",
		Long: `Print the reference configuration: every key with its default, its unit and its
meaning. It is a configuration itself, to be edited into one's own.

Every key outside of lists can be overridden: broker.url by the variable
TOPICAST_BROKER_URL, and that by the flag --broker-url of topicast run. With --env
it prints all variables instead, as a file for EnvironmentFile= of systemd,
env_file: of Docker Compose and docker run --env-file. A variable that begins with
TOPICAST_ and is none of these is refused by run, check and explain. The rules are
in lists, so no variable gives them.`,
		Example: `  topicast config
  topicast config > topicast.yaml
  topicast config --env > topicast.env`,
		RunE: func(c *cobra.Command, _ []string) error {
			if env {
				printVariables(c.OutOrStdout())
				return nil
			}
			_, err := c.OutOrStdout().Write(configs.Reference)
			return err
		},
	}
	c.Flags().BoolVar(&env, "env", false, "print the variables of the environment, with their defaults")
	return c
}

// printVariables prints a file of variables that sets none. Such a file knows no
// comment behind a value, and no quotes that every reader of it takes off.
func printVariables(out io.Writer) {
	fmt.Fprint(out, `# The variables that topicast reads, each with its default. One that is set goes
# before the file, and a flag before that; one that is empty counts as not set.
# Write values as they are, without quotes; variables in them are not put in.
`)
	for _, v := range configs.Variables() {
		fmt.Fprintf(out, "\n# %s: %s\n#%s=%s\n", cmp.Or(v.Key, "--config"), v.Usage, v.Name, v.Default)
	}
}
