//go:build !linux

package netlab

import "os"

// Tests is what [testing.M] offers to Main.
type Tests interface{ Run() int }

// Main runs the tests. Networks of namespaces exist on Linux only.
func Main(m Tests) { os.Exit(m.Run()) }

// Enter returns m: there is nothing to enter.
func Enter(m Tests) Tests { return m }

// Join does nothing.
func Join() {}
