package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"topicast/configs"
)

// errSaid ends a command with exit status 1 when its output has said why.
var errSaid = errors.New("failed")

// usageFault is an error of the one who typed the command: exit status 64.
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
	} else if h, ok := errors.AsType[hinted](err); ok {
		hint = printHint(w, h.hint)
	}
	if !isUsage(err) {
		return exitFailed
	}
	if !hint {
		printHint(w, c.CommandPath()+" --help")
	}
	return exitUsage
}

// isUsage reports whether the one who typed the command is at fault: also where a
// flag has a value that its key cannot have, since that does not heal, as a file or
// a file of variables (EnvironmentFile= of systemd) may.
func isUsage(err error) bool {
	if _, ok := errors.AsType[usageFault](err); ok {
		return true
	}
	faults, _ := errors.AsType[configs.Errors](err)
	return slices.ContainsFunc(faults, func(f *configs.Error) bool { return strings.HasPrefix(f.Origin, "--") })
}

// printError prints an error, or each of those of a configuration. It tells
// whether there was a hint with it.
func printError(w io.Writer, err error) (hint bool) {
	if faults, ok := errors.AsType[configs.Errors](err); ok {
		for _, f := range faults {
			fmt.Fprintf(w, "topicast: error: %s\n", harmless(f))
			hint = printHint(w, f.Hint) || hint
		}
		return hint
	}
	fmt.Fprintf(w, "topicast: error: %s\n", harmless(err))
	if h, ok := errors.AsType[hinted](err); ok {
		return printHint(w, h.hint)
	}
	return false
}

func printHint(w io.Writer, hint string) bool {
	if hint == "" {
		return false
	}
	fmt.Fprintf(w, "hint: %s\n", harmless(hint))
	return true
}

func printWarning(w io.Writer, what any) {
	fmt.Fprintf(w, "topicast: warning: %s\n", harmless(what))
}

func printNote(w io.Writer, what any) {
	fmt.Fprintf(w, "topicast: note: %s\n", harmless(what))
}

// harmless is a text for a terminal, which must not obey what somebody has written into a
// configuration, a name of a file or a variable.
func harmless(what any) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, fmt.Sprint(what))
}
