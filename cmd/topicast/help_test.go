package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// topicast runs a command in this process.
func topicast(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	status = execute(context.Background(), args, strings.NewReader(""), &out, &errOut)
	return status, out.String(), errOut.String()
}

// everyCommand is root and all its commands, as execute makes them.
func everyCommand() []*cobra.Command {
	root := newRootCommand()
	return append([]*cobra.Command{root}, root.Commands()...)
}

func TestEveryCommandSaysWhatItDoesInShortAtLengthAndByExample(t *testing.T) {
	for _, c := range everyCommand() {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || !unicode.IsUpper(rune(c.Short[0])) {
			t.Errorf("%s: Short is %q: want a title without a full stop", name, c.Short)
		}
		if !strings.HasSuffix(strings.TrimSpace(c.Long), ".") {
			t.Errorf("%s: Long does not end in a sentence: %q", name, c.Long)
		}
		if c.HasParent() && c.GroupID == "" {
			t.Errorf("%s is in no group, so help does not list it", name)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, name) {
				t.Errorf("%s: the example %q is not a command of it, indented", name, line)
			}
		}
		if c.Example == "" {
			t.Errorf("%s has no example", name)
		}
	}
}

func TestCommandsWhoseStatusSaysMoreTellSoInTheirHelp(t *testing.T) {
	special := map[string]bool{"topicast": true, "check": true, "explain": true, "doctor": true, "send": true, "listen": true, "learn": true, "replay": true, "status": true, "tap": true, "record": true, "flush": true}
	for _, c := range everyCommand() {
		if special[c.Name()] != strings.Contains(c.Long, "Exit status") {
			t.Errorf("%s: exit status in its help: %t, want %t", c.CommandPath(), !special[c.Name()], special[c.Name()])
		}
	}
}

func TestHelpListsEveryCommand(t *testing.T) {
	_, help, _ := topicast(t, "help")
	for _, c := range newRootCommand().Commands() {
		if !strings.Contains(help, "\n  "+c.Name()+" ") || !strings.Contains(help, "  "+c.Short+"\n") {
			t.Errorf("help does not list %s", c.Name())
		}
	}
}

func TestHelpFitsATerminal(t *testing.T) {
	const columns = 80
	for _, c := range everyCommand() {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		status, help, stderr := topicast(t, args...)
		if status != exitDone || stderr != "" {
			t.Errorf("%v: status %d, stderr %q", args, status, stderr)
		}
		for line := range strings.Lines(help) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
			if trimmed := strings.TrimRight(line, " \n"); trimmed != strings.TrimRight(line, "\n") {
				t.Errorf("%v: blanks at the end of %q", args, line)
			}
		}
	}
}
