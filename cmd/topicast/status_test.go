package main

import (
	"strings"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/send"
)

// printed is what topicast status prints.
func printed(t *testing.T, s *bridge.Status, match string, now time.Time) string {
	t.Helper()
	var out strings.Builder
	if err := printStatus(&out, s, match, now); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestStatusHasTheWholeReasonHoweverLongItIs(t *testing.T) {
	name, cause := strings.Repeat("lamps-of-floor-", 4)+"7", "; a switch with IGMP snooping, and no querier on the network, forgets who listens"
	s := &bridge.Status{Rules: []send.Status{{Name: name, State: account.StateDegraded, Reason: strings.Repeat("nothing is heard ", 5) + cause}}}
	if got := printed(t, s, "", time.Now()); !strings.Contains(got, cause+"\n") || !strings.Contains(got, "\n"+name+"  degraded ") {
		t.Errorf("it is cut:\n%s", got)
	}
}

// What concerns all rules is in no line of a rule.
func TestStatusHasWhatIsDegraded(t *testing.T) {
	const reason = "more comes than broker.max_rate lets through"
	s := &bridge.Status{Ready: true, Conditions: []bridge.Condition{
		{Name: "broker", State: account.StateDegraded, Reason: reason},
		{Name: "rule", Rule: "lamps", State: account.StateDegraded, Reason: "a socket fails"},
		{Name: "spool", State: account.StatePending, Reason: "the disk is full"}, // is among Waiting
	}}
	got := printed(t, s, "", time.Now())
	if !strings.Contains(got, "\ndegraded broker: "+reason+"\n") || strings.Contains(got, "a socket fails") || strings.Contains(got, "the disk is full") {
		t.Error(got)
	}
}

func TestStatusNamesTheHostsThatAreDown(t *testing.T) {
	now := time.Now()
	down := func(n int, hosts ...string) *bridge.Status {
		r := send.Status{Name: "rpc", State: account.StateUp, Down: n}
		for _, h := range hosts {
			r.HostsDown = append(r.HostsDown, send.HostDown{Host: h, Since: now.Add(-2 * time.Minute)})
		}
		return &bridge.Status{Rules: []send.Status{r}}
	}
	if got := printed(t, down(1, "172.17.33.99"), "", now); !strings.Contains(got, "\n  a host does not answer: 172.17.33.99 (for 2m 0s)\n") {
		t.Error(got)
	}
	got := printed(t, down(20, "172.17.33.1", "172.17.33.2", "172.17.33.3", "172.17.33.4", "172.17.33.5"), "", now)
	if !strings.Contains(got, "\n  20 hosts do not answer: 172.17.33.1 (for 2m 0s), ") || !strings.Contains(got, "172.17.33.4 (for 2m 0s) and 16 more\n") || strings.Contains(got, "172.17.33.5") {
		t.Error(got)
	}
	all := down(1, "172.17.33.99")
	all.Rules[0].State, all.Rules[0].Reason = account.StateDegraded, "172.17.33.99 does not answer"
	if got := printed(t, all, "", now); strings.Contains(got, "a host does not answer") {
		t.Errorf("it is said twice: %s", got)
	}
	if got := printed(t, down(0), "", now); strings.Contains(got, "answer") {
		t.Error(got)
	}
}

func TestStatusSaysThatNoRuleMatches(t *testing.T) {
	const none = `no rule has "lmps" in its name`
	if got := printed(t, &bridge.Status{}, "lmps", time.Now()); !strings.Contains(got, none) {
		t.Error(got)
	}
	if got := printed(t, &bridge.Status{Rules: []send.Status{{Name: "lmps"}}}, "lmps", time.Now()); strings.Contains(got, none) {
		t.Error(got)
	}
	if got := printed(t, &bridge.Status{}, "", time.Now()); strings.Contains(got, "no rule has") {
		t.Error(got)
	}
}

// Each fault of a file that was not taken over has its line.
func TestStatusHasEachFaultOfAReload(t *testing.T) {
	got := printed(t, &bridge.Status{Reload: &bridge.ReloadStatus{Error: "topicast.yaml:16:5: never guessed\ntopicast.yaml:17:5: missing"}}, "", time.Now())
	if !strings.Contains(got, "\nreload   the old configuration is in force:\n         topicast.yaml:16:5: never guessed\n         topicast.yaml:17:5: missing\n") {
		t.Error(got)
	}
}
