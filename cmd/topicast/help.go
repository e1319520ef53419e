package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// printWelcome is what topicast alone prints: what a newcomer needs first.
func printWelcome(w io.Writer) {
	fmt.Fprint(w, `topicast carries MQTT messages to IP multicast groups, from exactly the source
address and the interface you ask for, and the datagrams of groups back to MQTT.

  topicast demo                    see it work, on this machine alone
  topicast interfaces              see what can be named as source and interface
  topicast config > topicast.yaml  start a configuration: edit it, then
  topicast check                   … check it, and
  topicast run                     … run the bridge

topicast help lists all commands, topicast help COMMAND explains one.
`)
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "List the commands, or explain one",
		Long:  "List all commands, or explain one with its flags and examples.",
		Example: `  topicast help
  topicast help send`,
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, sub := range c.Root().Commands() {
				if len(args) == 0 && !sub.Hidden {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil {
				return err
			}
			if about == c.Root() {
				if err := checkCommand(about, rest); err != nil {
					return err
				}
			}
			about.InitDefaultHelpFlag() // so that the flags include --help here too
			return about.Help()
		},
	}
}

const columns = 80 // of a terminal

// wrap breaks the paragraphs of a text anew, except for those that are indented.
func wrap(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, " ") || strings.Contains(p, "\n ") {
			continue
		}
		var b strings.Builder
		n := 0
		for _, word := range strings.Fields(p) {
			size := utf8.RuneCountInString(word)
			switch {
			case n == 0:
			case n+1+size > columns:
				b.WriteByte('\n')
				n = 0
			default:
				b.WriteByte(' ')
				n++
			}
			b.WriteString(word)
			n += size
		}
		paragraphs[i] = b.String()
	}
	return strings.Join(paragraphs, "\n\n")
}

// printHelp and printUsage take the place of cobra's templates: they wrap the
// flags to a terminal's width.
func printHelp(c *cobra.Command, _ []string) {
	fmt.Fprintf(c.OutOrStdout(), "%s\n\n", wrap(strings.TrimSpace(c.Long)))
	_ = printUsage(c) // the output is watched
}

func printUsage(c *cobra.Command) error {
	w := c.OutOrStdout()
	usage := c.UseLine()
	if c.HasAvailableSubCommands() {
		usage = c.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(w, "Usage:\n  %s\n", usage)
	fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	for _, group := range c.Groups() {
		fmt.Fprintf(w, "\n%s\n", group.Title)
		for _, sub := range c.Commands() {
			if sub.GroupID == group.ID {
				fmt.Fprintf(w, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		const noise = "[=true|false]" // pflag has it behind the name of every switch
		flags := c.LocalFlags().FlagUsagesWrapped(columns)
		fmt.Fprintf(w, "\nFlags:\n%s", strings.ReplaceAll(flags, noise, strings.Repeat(" ", len(noise))))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n%s help COMMAND, or %[1]s COMMAND --help, explains one.\n", c.CommandPath())
	}
	return nil
}
