package main

import (
	"io"
	"os"
	"slices"
	"sync"
)

// brokenTopicast is this test binary as the command topicast that breaks, in the
// way its first argument says, as soon as its standard input ends. The product has
// no such door.
const brokenTopicast = "topicast-that-breaks"

// breakages are the ways in which a Go program ends by its own fault.
var breakages = map[string]func(){
	"panic":             func() { panic("a test asked for it") },
	"panic of an error": func() { var at []int; at[len(os.Args)] = 1 },
	"fatal error":       func() { new(sync.Mutex).Unlock() }, // no recover sees it
	"nothing":           func() { select {} },
}

func mainThatBreaks() {
	breakage := breakages[os.Args[1]]
	os.Args = slices.Delete(os.Args, 1, 2)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		breakage() // in a goroutine of its own, where no command can recover it
	}()
	main()
}
