//go:build !linux

package harness

import (
	"fmt"
	"os"
)

// NeedsLinux is all that a program of the lab does on another system.
func NeedsLinux(name string) {
	fmt.Fprintln(os.Stderr, name+": error: it needs network namespaces, which only Linux has")
	os.Exit(1)
}
