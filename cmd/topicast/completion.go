package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
)

// shells are those that completion knows, and how each gets its script.
var shells = []struct {
	name   string
	script func(root *cobra.Command, out io.Writer) error
}{
	{"bash", func(root *cobra.Command, out io.Writer) error { return root.GenBashCompletionV2(out, true) }},
	{"zsh", (*cobra.Command).GenZshCompletion},
	{"fish", func(root *cobra.Command, out io.Writer) error { return root.GenFishCompletion(out, true) }},
	{"powershell", (*cobra.Command).GenPowerShellCompletionWithDesc},
}

func newCompletionCommand() *cobra.Command {
	var names []string
	for _, s := range shells {
		names = append(names, s.name)
	}
	return &cobra.Command{
		Use:   "completion " + strings.Join(names, "|"),
		Short: "Print the script that completes commands in a shell",
		Long: `Print the script with which a shell completes commands, flags and the names of
this host's interfaces. For the current shell:

  bash        source <(topicast completion bash)
  zsh         source <(topicast completion zsh)
  fish        topicast completion fish | source
  powershell  topicast completion powershell | Out-String | Invoke-Expression

For every shell to come, put that line into its start-up file, or the script
into the folder where it looks for completions.`,
		Example: `  topicast completion bash
  topicast completion zsh`,
		ValidArgs: names,
		RunE: func(c *cobra.Command, args []string) error {
			return runCompletion(c.Root(), args[0], c.OutOrStdout())
		},
	}
}

func runCompletion(root *cobra.Command, shell string, out io.Writer) error {
	for _, s := range shells {
		if s.name == shell {
			return s.script(root, out)
		}
	}
	return usageError(fmt.Errorf("there is no completion for the shell %q", shell))
}

// completeFlags says how the values of a command's flags are completed: flags
// of one name mean the same everywhere.
func completeFlags(c *cobra.Command) {
	flags := c.Flags()
	if flags.Lookup("config") != nil {
		must(c.MarkFlagFilename("config", "yaml", "yml", "toml", "json"))
	}
	if flags.Lookup("file") != nil {
		must(c.RegisterFlagCompletionFunc("file", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)))
	}
	if flags.Lookup("interface") != nil {
		must(c.RegisterFlagCompletionFunc("interface", completeInterface))
	}
	if flags.Lookup("format") != nil {
		must(c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
	}
}

// must is for errors that only a slip in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func completeInterface(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, i := range interfaces {
		var addresses []string
		for _, a := range i.Addresses {
			addresses = append(addresses, a.Prefix.String())
		}
		names = append(names, cobra.CompletionWithDesc(i.Name, strings.Join(addresses, " ")))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
