package mapping_test

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// What comes back only to where it came from need not be handed to us; what goes on elsewhere must.
func TestNoLocalIsForWhatOnlyComesBack(t *testing.T) {
	on := func(name string) func(*mapping.ReceiveRule) {
		return func(r *mapping.ReceiveRule) { r.Interface = name }
	}
	for _, c := range []struct {
		name    string
		send    []mapping.SendRule
		receive []mapping.ReceiveRule
		own     []string
		want    map[string]bool // by subscription
	}{
		{"there and back", []mapping.SendRule{rule(t, "a", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso0"))}, nil, map[string]bool{"a": true}},
		{"to another group", []mapping.SendRule{rule(t, "a", "239.1.1.2:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso0"))}, nil, map[string]bool{"a": false}},
		{"to another port", []mapping.SendRule{rule(t, "a", "239.1.1.1:2")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso0"))}, nil, map[string]bool{"a": false}},
		{"by another interface", []mapping.SendRule{rule(t, "a", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso1"))}, nil, map[string]bool{"a": false}},
		{"by a template", []mapping.SendRule{rule(t, "a/{n}", "239.1.1.{n}:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a/{group}", on("iso0"))}, nil, map[string]bool{"a/+": false}},
		{"of a range", []mapping.SendRule{rule(t, "a", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1-239.1.1.2:1", "a", on("iso0"))}, nil, map[string]bool{"a": false}},
		{"nothing of ours", []mapping.SendRule{rule(t, "b", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso0"))}, nil, map[string]bool{"b": false}},
		{"another rule needs it", []mapping.SendRule{named(rule(t, "a/b", "239.1.1.1:1"), "1"), named(rule(t, "a/#", "239.1.1.9:1"), "2")},
			[]mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a/b", on("iso0"))}, nil, map[string]bool{"a/#": false}},
		{"another rule's filter brings nothing else", []mapping.SendRule{named(rule(t, "a/b", "239.1.1.1:1"), "1"), named(rule(t, "c/#", "239.1.1.9:1"), "2")},
			[]mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a/b", on("iso0"))}, nil, map[string]bool{"a/b": true, "c/#": false}},
		{"the status is to come", []mapping.SendRule{rule(t, "a/#", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a/b", on("iso0"))}, []string{"a/status/#"}, map[string]bool{"a/#": false}},
		{"a status elsewhere", []mapping.SendRule{rule(t, "a/#", "239.1.1.1:1")}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a/b", on("iso0"))}, []string{"b/status/#"}, map[string]bool{"a/#": true}},
	} {
		table := compileBoth(t, c.send, c.receive)
		got := make(map[string]bool)
		for _, s := range table.Subscriptions(c.own...) {
			got[s.Filter] = s.NoLocal
		}
		if diff := gocmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if rules := fmt.Sprint(table.NoLocal(c.own...)[0]); c.name != "another rule's filter brings nothing else" && rules != fmt.Sprint(got[c.send[0].Filter.MQTT()]) && len(c.send) == 1 {
			t.Errorf("%s: of the rule %s, of the subscription %v", c.name, rules, got)
		}
	}
	shared := rule(t, "a", "239.1.1.1:1")
	shared.Share = "gw" // with a shared subscription it is a protocol error [MQTT-3.8.3-4]
	if s := compileBoth(t, []mapping.SendRule{shared}, []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", on("iso0"))}).Subscriptions(); s[0].NoLocal {
		t.Error("a shared subscription has it")
	}
}

func TestAnswersAreToCome(t *testing.T) {
	ask := rule(t, "ask", "239.1.1.7:1")
	topic, err := mapping.ParseAnswerTopic("a/b")
	if err != nil {
		t.Fatal(err)
	}
	ask.Answer = &mapping.Answer{Topic: topic, Within: 1e9, Tries: 1}
	back := named(rule(t, "a/#", "239.1.1.1:1"), "back")
	heard := receiveRule(t, "239.1.1.1:1", "a/c", func(r *mapping.ReceiveRule) { r.Interface = "iso0" })
	for want, send := range map[bool][]mapping.SendRule{false: {back, ask}, true: {back}} {
		for _, s := range compileBoth(t, send, []mapping.ReceiveRule{heard}).Subscriptions() {
			if s.Filter == "a/#" && s.NoLocal != want {
				t.Errorf("with %d rules: %v", len(send), s.NoLocal)
			}
		}
	}
}
