package spool

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// childVar makes a copy of the test binary run one of children.
const childVar = "SPOOL_TEST_CHILD"

// children are what a test has run in a process of its own: with the spool's
// folder in hand, and standard output to tell of it.
var children = map[string]func(dir string) error{}

func runChild() {
	name := os.Getenv(childVar)
	if name == "" {
		return
	}
	if err := children[name](os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(t testing.TB, name, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, dir)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}
