package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The rules of output, for every command:
//
//   - Results go to stdout, everything else (errors, warnings, hints, progress,
//     logs) to stderr, so that a pipe gets results only.
//   - An error is "topicast: error: …", a warning "topicast: warning: …", what is
//     neither "topicast: note: …", each on one line, in lower case, without a full stop. What to do about it follows
//     as "hint: …" where that helps.
//   - The exit status is 0 if what was asked for is done, 1 if it failed, and 64
//     (EX_USAGE of sysexits.h) if it was asked for in a wrong way. It is not the
//     usual 2, since a Go program ends with that by a panic, a fatal error of its
//     runtime, SIGABRT (systemd's watchdog) and SIGQUIT: those must be told from
//     a wrong flag, for the unit starts the service again after all but the last.
//     A command for which a status says more tells so in its help.
//   - Text that came from elsewhere (topics, payloads) is escaped before it
//     reaches a terminal.

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 64 // an unknown command or flag, an argument missing, too many or malformed
)

// execute runs the command that args name and returns the exit status.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &watched{w: stdout}
	cobra.EnableCommandSorting = false // our order says more than the alphabet's
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("write the output: %w", out.err)
	}
	return conclude(stderr, c, err)
}

// watched remembers that writing failed (a full disk, say), so that no command
// has to look at every line it prints.
type watched struct {
	w   io.Writer
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "topicast",
		Short: "Carry MQTT messages to IP multicast groups and back",
		Long: `topicast carries MQTT messages to IP multicast groups, from exactly the source
address and the interface you ask for, and the datagrams of groups back to MQTT.

Exit status, of every command: 0 done, 1 failed, 64 wrong usage.`,
		Example: `  topicast demo
  topicast send 239.1.2.3:5000 hello --source 127.0.0.1`,
		Version:       buildVersion(),
		SilenceErrors: true, // conclude prints them
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			printWelcome(c.OutOrStdout())
			return nil
		},
	}
	help := newHelpCommand()
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"First steps:", []*cobra.Command{newDemoCommand(), newInterfacesCommand(), newConfigCommand()}},
		{"The bridge:", []*cobra.Command{newCheckCommand(), newExplainCommand(), newRunCommand(), newDoctorCommand()}},
		{"The running bridge:", []*cobra.Command{newStatusCommand(), newTapCommand(), newRecordCommand(), newRejoinCommand(), newDisableCommand(), newEnableCommand(), newFlushCommand()}},
		{"The network, without a broker:", []*cobra.Command{newSendCommand(), newListenCommand(), newLearnCommand(), newReplayCommand()}},
		{"More:", []*cobra.Command{newCompletionCommand(), help, newVersionCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.title
			c.Args = checkArguments
			completeFlags(c)
			onlyOnce(c)
		}
		root.AddCommand(group.commands...)
	}
	root.Args = checkCommand
	root.SuggestionsMinimumDistance = 2
	root.Flags().Bool("version", false, "print the version")
	root.SetHelpCommand(help)
	root.SetUsageFunc(printUsage)
	root.SetHelpFunc(printHelp)
	root.SetVersionTemplate("topicast {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true // ours is one command, with an example
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	return root
}
