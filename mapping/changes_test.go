package mapping_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func TestChangesAreThoseOfRulesByNameAndDirection(t *testing.T) {
	table := func(send []mapping.SendRule, receive ...mapping.ReceiveRule) *mapping.Table {
		t.Helper()
		table, err := mapping.Compile(send, receive)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	send := func(name string, ttl uint8) mapping.SendRule {
		r := rule(t, name, "239.1.2.3:5000")
		r.Name, r.Binding.TTL = name, ttl
		return r
	}
	before := table([]mapping.SendRule{send("same", 1), send("other", 1), send("gone", 1)})
	after := table([]mapping.SendRule{send("new", 1), send("other", 2), send("same", 1)})
	want := mapping.Changes{Added: []string{"new"}, Removed: []string{"gone"}, Changed: []string{"other"}}
	if diff := cmp.Diff(want, after.Changes(before)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(mapping.Changes{}, after.Changes(after)); diff != "" {
		t.Errorf("to itself (-want +got)\n%s", diff)
	}
}
