// Package harness is what the programs of the lab share: their flags and exit status, the run in namespaces, and the programs they start.
//
// A program of the lab is a [Program] and its [Options]; Program.Main is all of
// its main. The exit status is 0 if all went well, 1 if not, and 2 if the flags
// are wrong.
package harness
