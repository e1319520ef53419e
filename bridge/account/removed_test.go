package account_test

import (
	"fmt"
	"testing"

	"topicast/bridge/account"
)

type totals struct{ account.Counters }

// rule is one of a table.
type rule struct {
	name string
	*totals
}

func (r rule) account() (string, *totals) { return r.name, r.totals }

func TestTheLossesOfRulesThatAreGoneAreKeptByName(t *testing.T) {
	var r account.Removed[totals, *totals]
	old := new(totals)
	old.Count(account.ReasonExpired, 2)
	before := []rule{{"old", old}, {"stays", new(totals)}}
	account.Replace(&r, before, before[1:], rule.account)
	old.Count(account.ReasonRemoved, 3)
	if got := r.Losses("old"); got.Of(account.ReasonExpired) != 2 || got.Of(account.ReasonRemoved) != 3 {
		t.Errorf("%v", got.Dropped())
	}
	r.Losses("of an earlier process").Count(account.ReasonExpired, 1)
	if got := r.Find("old"); got != old {
		t.Error("it does not come back to its own")
	}
	account.Replace(&r, before[1:], before, rule.account)
	for name, c := range r.All() {
		if n := c.Dropped(); name == "old" || name == "" && n != 0 || name != "" && n != 1 {
			t.Errorf("rule %q has lost %d", name, n)
		}
	}
}

func TestRulesThatAreGoneAreBounded(t *testing.T) {
	var r account.Removed[totals, *totals]
	const rules = account.MaxRemoved + 500
	var gone []rule
	for i := range rules {
		gone = append(gone, rule{fmt.Sprint(i), new(totals)})
		gone[i].Count(account.ReasonRemoved, 1)
	}
	account.Replace(&r, gone, nil, rule.account)
	for _, c := range gone {
		c.Count(account.ReasonRemoved, 1) // they go on losing
	}
	names, lost := 0, uint64(0)
	for name, c := range r.All() {
		lost += c.Dropped()
		if name != "" {
			names++
		} else if got := c.Dropped(); got != 2*500 {
			t.Errorf("%d lost of others, want %d", got, 2*500)
		}
	}
	if names != account.MaxRemoved || lost != 2*rules {
		t.Errorf("%d names and %d lost in all, want %d and %d", names, lost, account.MaxRemoved, 2*rules)
	}
}
