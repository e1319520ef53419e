package mapping_test

import (
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
