package account

import (
	"regexp"
	"testing"
)

// A reason put in between must not take the name of its neighbour.
func TestEachReasonHasANameOfItsOwn(t *testing.T) {
	named := make(map[string]Reason)
	for _, r := range Reasons() {
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(r.String()) {
			t.Errorf("reason %d is called %q", r, r)
		}
		if other, taken := named[r.String()]; taken {
			t.Errorf("reasons %d and %d are both called %s", other, r, r)
		}
		named[r.String()] = r
	}
	for name, want := range map[string]Reason{"no_rule": DropNoRule, "retained": DropRetained, "own": DropOwn, "breaker": DropBreaker, "stopped": DropStopped} {
		if named[name] != want {
			t.Errorf("%s is the name of reason %d, want %d", name, named[name], want)
		}
	}
}
