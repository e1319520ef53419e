package main

import (
	"os"

	"topicast/internal/lab/netlab"
)

// systemTests removes, after all tests, what they share.
type systemTests struct{ netlab.Tests }

func (s systemTests) Run() int {
	defer func() {
		if systemDir != "" {
			os.RemoveAll(systemDir)
		}
	}()
	return s.Tests.Run()
}

// systemDir is where the binary under test is built; see topicastBinary.
var systemDir string
