package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"topicast/configs"
)

// errSaid ends a command with exit status 1 when its output has said why.
var errSaid = errors.New("failed")

// usageFault is an error of the one who typed the command: exit status 2.
type usageFault struct{ error }

func (e usageFault) Unwrap() error { return e.error }

func usageError(err error) error { return usageFault{err} }

// hinted is an error with a line that says what to do about it.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return hinted{err, hint} }

// conclude prints what went wrong with c and returns the exit status.
func conclude(w io.Writer, c *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	hint := false
	if !errors.Is(err, errSaid) {
		hint = printError(w, err)
	}
	if _, ok := errors.AsType[usageFault](err); !ok {
		return exitFailed
	}
	if !hint {
		printHint(w, c.CommandPath()+" --help")
	}
	return exitUsage
}

// printError prints an error, or each of those of a configuration. It tells
// whether there was a hint with it.
func printError(w io.Writer, err error) (hint bool) {
	if faults, ok := errors.AsType[configs.Errors](err); ok {
		for _, f := range faults {
			fmt.Fprintf(w, "topicast: error: %v\n", f)
			hint = printHint(w, f.Hint) || hint
		}
		return hint
	}
	fmt.Fprintf(w, "topicast: error: %v\n", err)
	if h, ok := errors.AsType[hinted](err); ok {
		return printHint(w, h.hint)
	}
	return false
}

func printHint(w io.Writer, hint string) bool {
	if hint == "" {
		return false
	}
	fmt.Fprintf(w, "hint: %s\n", hint)
	return true
}

func printWarning(w io.Writer, what any) { fmt.Fprintf(w, "topicast: warning: %v\n", what) }

// checkArguments holds the number of arguments to the usage line, so that help
// and command cannot disagree: WORD must be given, [WORD] may be, and [WORD]...
// may be more than once.
func checkArguments(c *cobra.Command, args []string) error {
	words := strings.Fields(c.Use)[1:]
	for i, word := range words {
		switch {
		case strings.HasSuffix(word, "..."):
			return nil
		case len(args) <= i && !strings.HasPrefix(word, "["):
			return usageError(fmt.Errorf("%s: %s is missing", c.CommandPath(), word))
		}
	}
	if len(args) > len(words) {
		err := fmt.Errorf("%s: %q is one argument too many", c.CommandPath(), args[len(words)])
		if len(words) > 0 {
			return usageError(withHint(err, "put quotes around an argument with blanks in it"))
		}
		return usageError(err)
	}
	return nil
}

// checkCommand explains a first word that is no command.
func checkCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("there is no command %q", args[0])
	if meant := root.SuggestionsFor(args[0]); len(meant) > 0 {
		return usageError(withHint(err, "did you mean topicast "+strings.Join(meant, " or topicast ")))
	}
	return usageError(withHint(err, "topicast help lists all commands"))
}
