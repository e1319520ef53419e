package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// shared makes rules of texts "share filter"; the share - is none.
func shared(t testing.TB, texts ...string) []mapping.SendRule {
	t.Helper()
	var list []mapping.SendRule
	for i, text := range texts {
		share, filterText, _ := strings.Cut(text, " ")
		r := named(rule(t, filterText, fmt.Sprintf("239.1.1.1:%d", i+1)), fmt.Sprint(i))
		if share != "-" {
			r.Share = share
		}
		list = append(list, r)
	}
	return list
}

func TestASharedSubscriptionIsAskedFor(t *testing.T) {
	table := compile(t, shared(t, "gw cmd/#", "gw cmd/+/set", "- state/#", "other alarm", "gw lamp/+/on", "gw lamp/1/+")...)
	var got []string
	ids := make(map[string]uint32)
	for _, s := range table.Subscriptions() {
		got = append(got, s.Filter)
		if s.NoRetained != strings.HasPrefix(s.Filter, "$share/") {
			t.Errorf("%s: without retained messages: %v", s.Filter, s.NoRetained)
		}
		ids[s.Filter] = s.ID
		if want := s.Filter[strings.Index(s.Filter, "/")+1:]; strings.HasPrefix(s.Filter, "$share/") && mapping.Unshared(s.Filter) != want[strings.Index(want, "/")+1:] {
			t.Errorf("%s unshared is %s", s.Filter, mapping.Unshared(s.Filter))
		}
	}
	if diff := gocmp.Diff([]string{"$share/gw/cmd/#", "$share/gw/lamp/+/on", "$share/gw/lamp/1/+", "$share/other/alarm", "state/#"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if of := table.SubscriptionIDs(); len(of[4]) != 1 || of[4][0] == 0 || of[4][0] != ids["$share/gw/lamp/+/on"] {
		t.Errorf("identifiers of the rules %v, of the subscriptions %v", of, ids)
	}
	if got := mapping.Unshared("state/#"); got != "state/#" {
		t.Errorf("state/# unshared is %s", got)
	}
}

func TestSharesThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		rules []string
		want  string // in the one fault; "": there is none
	}{
		{[]string{"gw cmd/#", "- state/#", "other alarm/#", "gw cmd/x"}, ""},
		{[]string{"- cmd/x", "gw cmd/#"}, `send[1].share: "cmd/#" overlaps "cmd/x" of send[0], which is not shared`},
		{[]string{"gw cmd/x", "- +/x"}, `send[0].share: "cmd/x" overlaps "+/x" of send[1], which is not shared`},
		{[]string{"gw cmd/x", "gw2 cmd/x"}, `of send[1], whose share is "gw2"`},
		{[]string{"g/w cmd/x"}, `send[0].share: "g/w" has one of / + #`},
		{[]string{"g+ cmd/x"}, "has one of / + #"},
		{[]string{"g\x00 cmd/x"}, "is no name"},
		{[]string{"g\xff cmd/x"}, "is no name"},
		{[]string{strings.Repeat("g", 256) + " cmd/x"}, "longer than 255 bytes"},
		{[]string{"gw " + strings.Repeat("a", 65530)}, "longer than 65,535"},
	} {
		_, err := mapping.Compile(shared(t, tt.rules...), nil)
		got := strings.Join(faults(t, err), "\n")
		if strings.ReplaceAll(got, `\"`, `"`) == "" != (tt.want == "") || !strings.Contains(strings.ReplaceAll(got, `"`, ""), strings.ReplaceAll(tt.want, `"`, "")) {
			t.Errorf("%.60q: %s, want %s", tt.rules, got, tt.want)
		}
	}
	always := shared(t, "gw cmd/x")
	always[0].Retained = mapping.RetainedAlways
	if _, err := mapping.Compile(always, nil); !strings.Contains(fmt.Sprint(err), "send[0].retained") {
		t.Errorf("retained: always: %v", err)
	}
}
