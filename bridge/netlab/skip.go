package netlab

import (
	"os"
	"testing"
)

// NoSkip is the environment variable that turns every skip into a failure:
// TOPICAST_NO_SKIP=1. A machine that is meant to run all tests sets it, so that
// none of them can go missing unseen.
const NoSkip = "TOPICAST_NO_SKIP"

// Skip ends the test as skipped, or as failed where [NoSkip] is set.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(NoSkip) == "1" {
		t.Fatalf(format+" (no skip allowed: "+NoSkip+"=1)", args...)
	}
	t.Skipf(format, args...)
}
