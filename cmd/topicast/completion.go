package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// shells are those that completion knows, and how each gets its script.
var shells = []struct {
	name   string
	script func(root *cobra.Command, out io.Writer) error
}{
	{"bash", func(_ *cobra.Command, out io.Writer) error {
		_, err := io.WriteString(out, bashCompletion)
		return err
	}},
	{"zsh", zshCompletion},
	{"fish", func(root *cobra.Command, out io.Writer) error { return root.GenFishCompletion(out, true) }},
	{"powershell", (*cobra.Command).GenPowerShellCompletionWithDesc},
}

// bashCompletion is ours, since cobra's needs the package bash-completion, which many
// a gateway does not have, and runs what stands in the line to be completed.
//
//go:embed completion.bash
var bashCompletion string

// zshCompletion begins the completion system where no start-up file has done so.
func zshCompletion(root *cobra.Command, out io.Writer) error {
	var script bytes.Buffer
	if err := root.GenZshCompletion(&script); err != nil {
		return err
	}
	const begin = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"
	_, err := io.WriteString(out, strings.Replace(script.String(), "\ncompdef ", "\n"+begin+"compdef ", 1))
	return err
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
	c.Flags().VisitAll(func(f *pflag.Flag) {
		complete := func(values cobra.CompletionFunc) { must(c.RegisterFlagCompletionFunc(f.Name, values)) }
		values := f.Annotations[configs.FlagValues]
		switch kind := f.Value.Type(); {
		case f.Name == "config":
			must(c.MarkFlagFilename(f.Name, extensions...))
		case kind == "folder":
			must(c.MarkFlagDirname(f.Name))
		case kind == "file" || f.Name == "file":
			complete(cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
		case f.Name == "rule" && c.Flag("control") != nil:
			complete(completeRule)
		case f.Name == "control":
			complete(cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
		case f.Name == "interface":
			complete(completeInterface)
		case f.Name == "source":
			complete(completeSource)
		case f.Name == "rule":
			complete(completeConfiguredRule)
		case f.Name == "format":
			complete(cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
		case f.Name == "dscp":
			complete(cobra.FixedCompletions(mapping.DSCPNames(), cobra.ShellCompDirectiveNoFileComp))
		case len(values) > 0:
			complete(cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder))
		}
	})
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
			if a.Label != "" {
				names = append(names, cobra.CompletionWithDesc(a.Label, a.Prefix.String()))
			}
		}
		for _, name := range append([]string{i.Name}, i.AltNames...) {
			names = append(names, cobra.CompletionWithDesc(name, strings.Join(addresses, " ")))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeConfiguredRule offers the rules of the configuration, as far as it loads.
func completeConfiguredRule(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := configs.Load(c.Flag("config").Value.String(), nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ruleNames(cfg.Table), cobra.ShellCompDirectiveNoFileComp
}

// completeSource offers the addresses of this host, those of --interface where that
// is given.
func completeSource(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	if on, err := multicast.ResolveInterface(c.Flag("interface").Value.String(), interfaces); err == nil {
		interfaces = []multicast.Interface{on}
	}
	var addresses []string
	for _, i := range interfaces {
		for _, a := range i.Addresses {
			addresses = append(addresses, cobra.CompletionWithDesc(a.Prefix.Addr().String(), i.Name))
		}
	}
	return addresses, cobra.ShellCompDirectiveNoFileComp
}
