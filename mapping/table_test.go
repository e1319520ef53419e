package mapping_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// targets renders targets as "rule group" or "rule error".
func targets(list []mapping.Target) []string {
	var lines []string
	for _, target := range list {
		if target.Err != nil {
			lines = append(lines, fmt.Sprint(target.Rule, " error"))
		} else {
			lines = append(lines, fmt.Sprint(target.Rule, " ", target.To))
		}
	}
	return lines
}

func TestLookupGivesTargetsInRuleOrder(t *testing.T) {
	table := compile(t,
		rule(t, "site/#", "239.1.0.0:1"),
		rule(t, "site/{floor}/lamp/{id}", "239.1.{floor}.{id}:1"),
		rule(t, "+/+/+/+", "239.1.0.2:1"),
		named(rule(t, "site/#", "239.1.0.3:1"), "again"),
		rule(t, "site/1/lamp/2", "239.1.0.4:1"),
		rule(t, "site/1/lamp", "239.1.0.5:1"),
		rule(t, "$SYS/#", "239.1.0.6:1"),
		rule(t, "#", "239.1.0.7:1"),
		rule(t, "site/1/lamp/2/#", "239.1.0.8:1"),
	)
	tests := map[string][]string{
		"site/1/lamp/2":   {"0 239.1.0.0:1", "1 239.1.1.2:1", "2 239.1.0.2:1", "3 239.1.0.3:1", "4 239.1.0.4:1", "7 239.1.0.7:1", "8 239.1.0.8:1"},
		"site/1/lamp/300": {"0 239.1.0.0:1", "1 error", "2 239.1.0.2:1", "3 239.1.0.3:1", "7 239.1.0.7:1"},
		"site":            {"0 239.1.0.0:1", "3 239.1.0.3:1", "7 239.1.0.7:1"},
		"other":           {"7 239.1.0.7:1"},
		"///":             {"2 239.1.0.2:1", "7 239.1.0.7:1"},
		"$SYS/uptime":     {"6 239.1.0.6:1"},
		"$SYS":            {"6 239.1.0.6:1"},
		"$share/a/b/c":    nil,
		"":                nil,
	}
	for topic, want := range tests {
		if diff := cmp.Diff(want, targets(table.Lookup(topic, nil))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", topic, diff)
		}
	}
}

func TestLookupAppends(t *testing.T) {
	table := compile(t, rule(t, "a", "239.1.1.1:1"))
	dst := table.Lookup("a", []mapping.Target{{Rule: 99}})
	if len(dst) != 2 || dst[0].Rule != 99 || dst[1].Rule != 0 {
		t.Errorf("got %v", dst)
	}
	if dst := compile(t).Lookup("a", nil); dst != nil {
		t.Errorf("a table without rules gave %v", dst)
	}
}

func named(r mapping.SendRule, name string) mapping.SendRule {
	r.Name = name
	return r
}

// filters draws n filters from a small alphabet, so that many meet.
func filters(r *rand.Rand, n int) []string {
	words := []string{"a", "b", "", "$x", "+", "+", "{n}"}
	list := make([]string, n)
	for i := range list {
		levels := make([]string, 1+r.IntN(4))
		for j := range levels {
			levels[j] = words[r.IntN(len(words)-1)]
		}
		if r.IntN(4) == 0 {
			levels[len(levels)-1] = "#"
		}
		if r.IntN(3) == 0 {
			levels[r.IntN(len(levels))] = "{n}"
		}
		if list[i] = strings.Join(levels, "/"); list[i] == "" {
			list[i] = "/"
		}
	}
	return list
}

func TestLookupAgreesWithALoopOverTheRules(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "", "$x", "7"}
	for range 300 {
		var rules []mapping.SendRule
		for i, text := range filters(r, 1+r.IntN(60)) {
			rules = append(rules, named(rule(t, text, fmt.Sprintf("239.0.0.1:%d", i+1)), fmt.Sprint(i)))
		}
		table := compile(t, rules...)
		for range 50 {
			levels := make([]string, 1+r.IntN(5))
			for i := range levels {
				levels[i] = words[r.IntN(len(words))]
			}
			topic := strings.Join(levels, "/")
			var want []string
			for i, rule := range rules {
				if naiveMatch(rule.Filter.MQTT(), topic) {
					group, _ := rule.Group.Fixed()
					want = append(want, fmt.Sprint(i, " ", group))
				}
			}
			if diff := cmp.Diff(want, targets(table.Lookup(topic, nil))); diff != "" {
				t.Fatalf("%q (-want +got):\n%s", topic, diff)
			}
		}
	}
}

// every returns all filters of depth levels, each "a" or "+": 2^depth.
func every(depth int) []string {
	list := []string{""}
	for range depth {
		var longer []string
		for _, f := range list {
			longer = append(longer, f+"a/", f+"+/")
		}
		list = longer
	}
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], "/")
	}
	return list
}

// Where each level branches, a walk still meets each node once: every rule is
// found, and none twice.
func TestLookupMeetsEachRuleOnce(t *testing.T) {
	const depth = 12
	var rules []mapping.SendRule
	for d := 1; d <= depth; d++ {
		for _, text := range every(d) {
			rules = append(rules, rule(t, text+"/#", "239.1.1.1:1"))
		}
	}
	got := compile(t, rules...).Lookup(strings.Repeat("a/", depth)+"z/z", nil)
	if len(got) != len(rules) {
		t.Fatalf("%d targets of %d rules", len(got), len(rules))
	}
	for i, target := range got {
		if target.Rule != i {
			t.Fatalf("target %d is of rule %d", i, target.Rule)
		}
	}
}

// A topic may have 65,536 levels, and so may a filter.
func TestLookupOfTheDeepestTopic(t *testing.T) {
	slashes := strings.Repeat("/", 65535)
	deepest := strings.Repeat("+/", 32767) + "+"
	var rules []mapping.SendRule
	for i, text := range []string{
		slashes, deepest, "{first}/#", "#", "+/+", strings.Repeat("/", 65533) + "/#", strings.Repeat("/", 60000) + "{late}/#",
		strings.Repeat("+/", 32766) + "{last}",
	} {
		rules = append(rules, named(rule(t, text, "239.1.1.1:1"), fmt.Sprint(i)))
	}
	table := compile(t, rules...)
	want := []string{"0 239.1.1.1:1", "2 239.1.1.1:1", "3 239.1.1.1:1", "5 239.1.1.1:1", "6 239.1.1.1:1"}
	if diff := cmp.Diff(want, targets(table.Lookup(slashes, nil))); diff != "" {
		t.Errorf("65,535 slashes (-want +got):\n%s", diff)
	}
	want = []string{"1 239.1.1.1:1", "2 239.1.1.1:1", "3 239.1.1.1:1"}
	if diff := cmp.Diff(want, targets(table.Lookup(strings.Repeat("a/", 32767)+"a", nil))); diff != "" {
		t.Errorf("32,768 levels (-want +got):\n%s", diff)
	}
	if got := len(table.Subscriptions()); got != 1 {
		t.Errorf("%d subscriptions, want # alone", got)
	}
	table.Warnings()
}

// Many branches at every level of a very deep topic: a trie is no automaton,
// the walk stays within its nodes. It would not end otherwise.
func TestLookupIsNotExponential(t *testing.T) {
	const depth = 200
	var rules []mapping.SendRule
	for i := range depth {
		text := strings.Repeat("a/", i) + "+/" + strings.Repeat("a/", depth-i) + "end"
		rules = append(rules, rule(t, text, "239.1.1.1:1"), rule(t, strings.Repeat("+/", i)+strings.Repeat("a/", depth-i)+"end", "239.1.1.1:1"))
	}
	table := compile(t, rules...)
	topic := strings.Repeat("a/", depth+1)
	if got := table.Lookup(topic+"other", nil); got != nil {
		t.Errorf("%d targets", len(got))
	}
	if got := len(table.Lookup(topic+"end", nil)); got != depth {
		t.Errorf("%d targets, want %d", got, depth)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	var rules []mapping.SendRule
	for i := range 100 {
		rules = append(rules, rule(t, fmt.Sprintf("site/{floor}/lamp%d/{id}/+", i), "239.10.{floor}.{id}:{30000+id}"))
	}
	rules = append(rules, rule(t, "site/#", "239.1.1.1:1"), rule(t, "{a}/{b}/{c}/{d}/{e}", "239.{b}.{d}.1:{b}"),
		rule(t, "site/+/lamp7/{address}/+", "{address}:1"))
	table := compile(t, rules...)
	dst := make([]mapping.Target, 0, 8)
	for topic, want := range map[string]int{
		"site/3/lamp7/17/set": 4, "site/3": 1, "nowhere": 0, "site/3/lamp7/239.1.1.1/set": 4,
		strings.Repeat("site/", 13000): 1,
	} {
		n := testing.AllocsPerRun(100, func() { dst = table.Lookup(topic, dst[:0]) })
		good := 0
		for _, target := range dst {
			if target.Err == nil {
				good++
			}
		}
		if len(dst) != want {
			t.Errorf("%.40s: %d targets, want %d", topic, len(dst), want)
		}
		if good == len(dst) && n != 0 {
			t.Errorf("%.40s: %v allocations", topic, n)
		}
	}
}

// Send shows what Compile filled in, and the caller's rules stay as they were.
func TestCompileFillsInNameAndFamily(t *testing.T) {
	given := []mapping.SendRule{rule(t, "a/{id}", "239.1.1.{id}:1"), rule(t, "b", "[ff15::1]:1"), rule(t, "c/{x}", "{x}:1"), rule(t, "d/{x}", "[{x}]:1"), rule(t, "e/{x}", "{x}:1")}
	given[4].Binding.Source = prefix("fd17::/64")
	table := compile(t, given...)
	var got []string
	for _, r := range table.Send() {
		got = append(got, fmt.Sprint(r.Name, " ", r.Binding.IPv6))
	}
	if diff := cmp.Diff([]string{"a/{id} false", "b true", "c/{x} false", "d/{x} true", "e/{x} true"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if given[1].Name != "" || given[1].Binding.IPv6 {
		t.Error("Compile wrote to the rules it was given")
	}
}
