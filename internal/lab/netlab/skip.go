package netlab

import (
	"os"
)

// NoSkip is the environment variable that turns every skip into a failure:
// TOPICAST_NO_SKIP=1. A machine that is meant to run all tests sets it, so that
// none of them can go missing unseen.
const NoSkip = "TOPICAST_NO_SKIP"

// VM is the environment variable that .ci/vm sets in its virtual machine.
const VM = "TOPICAST_VM"

// SkipKernel ends the test as skipped because this machine's kernel lacks
// something. That is no failure where [NoSkip] is set, but in the virtual machine,
// whose kernel has all that the tests want.
func SkipKernel(t T, format string, args ...any) {
	t.Helper()
	if os.Getenv(VM) == "1" {
		Skip(t, format, args...)
	}
	t.Skipf(format+"; .ci/vm runs this test under another", args...)
}

// Skip ends the test as skipped, or as failed where [NoSkip] is set.
func Skip(t T, format string, args ...any) {
	t.Helper()
	if os.Getenv(NoSkip) == "1" {
		t.Fatalf(format+" (no skip allowed: "+NoSkip+"=1)", args...)
	}
	t.Skipf(format, args...)
}
