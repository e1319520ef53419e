package account_test

import (
	"regexp"
	"testing"

	"topicast/bridge/account"
)

// A reason put in between must not take the name of its neighbour.
func TestEachReasonHasANameOfItsOwn(t *testing.T) {
	named := make(map[string]account.Reason)
	for _, r := range account.Reasons() {
		if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(r.String()) {
			t.Errorf("reason %d is called %q", r, r)
		}
		if other, taken := named[r.String()]; taken {
			t.Errorf("reasons %d and %d are both called %s", other, r, r)
		}
		named[r.String()] = r
	}
	for name, want := range map[string]account.Reason{"no_rule": account.ReasonNoRule, "retained": account.ReasonRetained, "own": account.ReasonOwn, "breaker": account.ReasonBreaker, "stopped": account.ReasonStopped} {
		if named[name] != want {
			t.Errorf("%s is the name of reason %d, want %d", name, named[name], want)
		}
	}
}
