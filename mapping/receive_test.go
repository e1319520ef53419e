package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"topicast/mapping"
)

// receiveRule returns a rule without faults.
func receiveRule(t testing.TB, group, topicText string, change ...func(*mapping.ReceiveRule)) mapping.ReceiveRule {
	t.Helper()
	r := mapping.ReceiveRule{
		Name:      group + " to " + topicText,
		Groups:    []mapping.GroupRange{groupRange(t, group)},
		Interface: "iso0",
		Topic:     topic(t, topicText),
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func compileBoth(t testing.TB, send []mapping.SendRule, receive []mapping.ReceiveRule) *mapping.Table {
	t.Helper()
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestJoinsAreEqualWhereASocketIsShared(t *testing.T) {
	joins := func(groups, on string, sources ...string) string {
		r := receiveRule(t, groups, "a", func(r *mapping.ReceiveRule) {
			r.Interface = on
			for _, s := range sources {
				r.Sources = append(r.Sources, prefix(s))
			}
		})
		var all []string
		for j := range r.Joins() {
			all = append(all, fmt.Sprintf("%s %s (%s)", j.Group, j.Interface, j.Sources))
		}
		return strings.Join(all, ", ")
	}
	for want, got := range map[string]string{
		"239.1.1.1:1 iso0 (), 239.1.1.2:1 iso0 ()": joins("239.1.1.1-239.1.1.2:1", "iso0"),
		"239.1.1.1:1 iso0 (192.0.2.1 192.0.2.9)":   joins("239.1.1.1:1", "iso0", "192.0.2.9/32", "192.0.2.1/32", "192.0.2.9/32"),
		"239.1.1.1:1 172.17.0.1 ()":                joins("239.1.1.1:1", "172.17.0.1", "192.0.2.9/32", "192.0.2.0/24"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
