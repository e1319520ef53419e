package mapping_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// rules makes rules of texts "qos filter" or "filter".
func rules(t testing.TB, texts ...string) []mapping.SendRule {
	t.Helper()
	var list []mapping.SendRule
	for i, text := range texts {
		qos, filterText := byte(0), text
		if len(text) > 1 && text[1] == ' ' {
			qos, filterText = text[0]-'0', text[2:]
		}
		r := named(rule(t, filterText, fmt.Sprintf("239.1.1.1:%d", i+1)), fmt.Sprint(i))
		r.QoS = qos
		list = append(list, r)
	}
	return list
}

func TestSubscriptionsCoverEachFilterOnce(t *testing.T) {
	tests := map[string]struct{ rules, want []string }{
		"none":                             {nil, nil},
		"sorted":                           {[]string{"1 b", "0 a", "2 c"}, []string{"0 a", "1 b", "2 c"}},
		"equal filters are one":            {[]string{"0 a/{x}", "2 a/+", "1 a/{y}"}, []string{"2 a/+"}},
		"# covers all":                     {[]string{"1 a", "0 #", "2 +/b", "1 c/#"}, []string{"2 #"}},
		"but for $ [MQTT-4.7.2-1]":         {[]string{"0 #", "1 $SYS/#", "2 $SYS/x", "1 +/x"}, []string{"1 #", "2 $SYS/#"}},
		"+ is not for $ either":            {[]string{"0 +/x", "1 $SYS/x"}, []string{"1 $SYS/x", "0 +/x"}},
		"# covers the level above":         {[]string{"0 a/#", "1 a"}, []string{"1 a/#"}},
		"not the one beside":               {[]string{"0 a/#", "1 ab"}, []string{"0 a/#", "1 ab"}},
		"+ does not cover #":               {[]string{"0 a/+", "1 a/#"}, []string{"1 a/#"}},
		"#, not the like +/#":              {[]string{"2 +/#", "0 #"}, []string{"2 #"}},
		"+/# alone covers all":             {[]string{"0 +/#", "1 a", "2 a/b/c"}, []string{"2 +/#"}},
		"partly overlapping ones stay":     {[]string{"0 a/+", "1 +/b"}, []string{"1 +/b", "0 a/+"}},
		"qos goes to all that cover":       {[]string{"0 a/+", "0 +/b", "2 a/b"}, []string{"2 +/b", "2 a/+"}},
		"through one that is covered, too": {[]string{"0 a/#", "0 a/+", "2 a/b"}, []string{"2 a/#"}},
		"qos of the lower is not lost":     {[]string{"1 a/#", "0 a/b"}, []string{"1 a/#"}},
		"empty levels count":               {[]string{"0 +/+", "1 /", "2 a"}, []string{"1 +/+", "2 a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range compile(t, rules(t, tt.rules...)...).Subscriptions() {
				got = append(got, fmt.Sprint(s.QoS, " ", s.Filter))
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The trie must find what comparing each filter with each other finds.
func TestSubscriptionsAgreeWithComparingAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		list := rules(t, filters(r, 1+r.IntN(40))...)
		for i := range list {
			list[i].QoS = byte(r.IntN(3))
		}
		var want []mapping.Subscription
		for i, a := range list {
			s := mapping.Subscription{Filter: a.Filter.MQTT()}
			kept := true
			for j, b := range list {
				if a.Filter.Covers(b.Filter) {
					s.QoS = max(s.QoS, b.QoS)
				}
				equal := a.Filter.Covers(b.Filter) && b.Filter.Covers(a.Filter)
				// Of equal filters one stays: # rather than +/#, else the first.
				first := j < i
				if a.Filter.MQTT() != b.Filter.MQTT() {
					first = b.Filter.MQTT() == "#"
				}
				if b.Filter.Covers(a.Filter) && (!equal || first) {
					kept = false
				}
			}
			if kept {
				want = append(want, s)
			}
		}
		slices.SortFunc(want, func(a, b mapping.Subscription) int { return cmp.Compare(a.Filter, b.Filter) })
		got := compile(t, list...).Subscriptions()
		for i := range got {
			got[i].ID = 0 // see TestOverlappingFiltersHaveIdentifiers
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// warnings renders warnings as "path: text".
func warnings(table *mapping.Table) []string {
	var lines []string
	for _, w := range table.Warnings() {
		lines = append(lines, w.Path+": "+w.Text)
	}
	return lines
}

func TestWarnings(t *testing.T) {
	ttl := func(r mapping.SendRule, ttl uint8) mapping.SendRule {
		r.Binding.TTL = ttl
		return r
	}
	from := func(r mapping.SendRule, iface string) mapping.SendRule {
		r.Binding.Interface = iface
		return r
	}
	hexed := named(rule(t, "a", "239.1.1.1:1"), "hex")
	hexed.Payload = payload(t, "hex")
	tests := map[string]struct {
		rules []mapping.SendRule
		want  []string
	}{
		"partial overlap [MQTT-3.3.5-1]": {rules(t, "a/{x}", "c", "{y}/b"), []string{
			"send[2].filter: {y}/b overlaps a/{x} of send[0], and neither covers the other: a broker of MQTT 3.1.1, or of MQTT 5 without Subscription Identifiers, may deliver a message that matches both once for each [MQTT-3.3.5-1], and then it leaves twice"}},
		"the first of equal filters is named": {rules(t, "a/+", "a/{x}", "+/b"), []string{"send[2].filter: +/b overlaps a/+ of send[0], "}},
		"with # on either side": {rules(t, "a/#", "+/b", "+/+/c"), []string{
			"send[1].filter: +/b overlaps a/# of send[0], ", "send[2].filter: +/+/c overlaps a/# of send[0], "}},
		"a filter covered is not subscribed to": {rules(t, "a/+", "+/b", "#"), nil},
		"fan-out is what rules are for":         {rules(t, "a", "a", "+"), nil},
		"$ overlaps no wildcard [MQTT-4.7.2-1]": {rules(t, "+/x", "$SYS/+"), nil},
		"the same datagram twice": {[]mapping.SendRule{rule(t, "a/#", "239.1.1.1:1"), rule(t, "b", "239.1.1.1:1"), rule(t, "a/b", "239.1.1.{0+1}:1")}, []string{
			"send[2].group: send[0] sends to 239.1.1.{0+1}:1 from the same binding too: a message that matches both a/# and a/b leaves twice"}},
		"the same datagram by the same captures": {[]mapping.SendRule{rule(t, "a/{x}/#", "239.1.1.{x}:1"), rule(t, "a/{x}/b", "239.1.1.{x}:1")}, []string{
			"send[1].group: send[0] sends to 239.1.1.{x}:1 "}},
		"two pairs, one within the other": {[]mapping.SendRule{rule(t, "a/#", "239.1.1.1:1"), rule(t, "b/#", "239.1.1.2:1"), rule(t, "a/b", "239.1.1.1:1"), rule(t, "b/b", "239.1.1.2:1")}, []string{
			"send[2].group: send[0] sends to 239.1.1.1:1 ", "send[3].group: send[1] sends to 239.1.1.2:1 "}},
		"another template is another":     {[]mapping.SendRule{rule(t, "a/{x}/#", "239.1.1.{x}:1"), rule(t, "a/{x}/b", "239.1.2.{x}:1")}, nil},
		"other levels are other groups":   {[]mapping.SendRule{rule(t, "a/{x}/#", "239.1.1.{x}:1"), rule(t, "a/+/{x}", "239.1.1.{x}:1")}, nil},
		"another port is another group":   {[]mapping.SendRule{rule(t, "a/#", "239.1.1.1:1"), rule(t, "a", "239.1.1.1:2")}, nil},
		"another interface is another":    {[]mapping.SendRule{rule(t, "a/#", "239.1.1.1:1"), from(rule(t, "a", "239.1.1.1:1"), "iso1")}, nil},
		"another payload is another":      {[]mapping.SendRule{rule(t, "a/#", "239.1.1.1:1"), hexed}, nil},
		"224.0.0.0/24 with a ttl":         {[]mapping.SendRule{ttl(rule(t, "a/{x}", "224.0.0.{x}:1"), 2)}, []string{"send[0].ttl: routers never forward 224.0.0.{x}:1 (224.0.0.0/24 is the link, RFC 5771 4), so a ttl of 2 reaches no further than 1"}},
		"multicast DNS wants ttl 255":     {[]mapping.SendRule{ttl(rule(t, "a", "224.0.0.251:5353"), 255), ttl(rule(t, "b", "[ff02::fb]:5353"), 255)}, nil},
		"224.0.0.0/24 with ttl 254":       {[]mapping.SendRule{ttl(rule(t, "a", "224.0.0.251:5353"), 254)}, []string{"send[0].ttl: routers never forward 224.0.0.251:5353 "}},
		"224.0.0.0/24 with ttl 1":         {[]mapping.SendRule{rule(t, "a/{x}", "224.0.0.{x}:1")}, nil},
		"224.0.1.0/24 with a ttl":         {[]mapping.SendRule{ttl(rule(t, "a/{x}", "224.0.1.{x}:1"), 2)}, nil},
		"a group that may be elsewhere":   {[]mapping.SendRule{ttl(rule(t, "a/{x}", "224.0.{x}.1:1"), 2), ttl(rule(t, "b/{x}", "{x}:1"), 2)}, nil},
		"IPv6 link-local with hop limit":  {[]mapping.SendRule{ttl(rule(t, "a", "[ff12::1]:1"), 64)}, []string{"send[0].ttl: routers never forward [ff12::1]:1 (scope 2 is the link, RFC 4291 2.7), so a ttl of 64 reaches no further than 1"}},
		"IPv6 site-local with hop limit":  {[]mapping.SendRule{ttl(rule(t, "a", "[ff05::1]:1"), 64)}, nil},
		"IPv6 interface-local goes where": {[]mapping.SendRule{rule(t, "a", "[ff01::1]:1")}, []string{"send[0].group: [ff01::1]:1 has scope 1, which never leaves this host (RFC 4291 2.7)"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range tt.rules {
				tt.rules[i].Name = fmt.Sprint(i)
			}
			got := warnings(compile(t, tt.rules...))
			for i := range got {
				if i < len(tt.want) && strings.HasPrefix(got[i], tt.want[i]) {
					got[i] = tt.want[i]
				}
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsAgreeWithComparingAll(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		list := rules(t, filters(r, 1+r.IntN(12))...)
		for i := range list {
			list[i].Group = group(t, "239.1.1.1:1")
		}
		table := compile(t, list...)
		var kept []mapping.Filter
		for _, s := range table.Subscriptions() {
			kept = append(kept, filter(t, s.Filter))
		}
		want := pairs(kept)
		var all []mapping.Filter
		for _, r := range list {
			all = append(all, r.Filter)
		}
		want += pairs(all)
		got := 0
		for _, w := range table.Warnings() {
			more := 0
			if _, err := fmt.Sscanf(w.Text, "%d more pairs", &more); err == nil {
				got += more
			} else {
				got++
			}
		}
		if got != want {
			t.Fatalf("%d pairs warned of, want %d: %q", got, want, all)
		}
	}
}

// pairs counts the overlapping pairs.
func pairs(list []mapping.Filter) int {
	n := 0
	for i := range list {
		for j := range i {
			if list[i].Overlaps(list[j]) {
				n++
			}
		}
	}
	return n
}

func TestWarningsAreBounded(t *testing.T) {
	var texts []string
	for i := range 300 {
		texts = append(texts, fmt.Sprintf("a%d/+", i), fmt.Sprintf("+/b%d", i))
	}
	got := warnings(compile(t, rules(t, texts...)...))
	if len(got) != 21 || got[20] != "send: 89980 more pairs of filters that overlap" {
		t.Errorf("300 by 300 filters: %d warnings, the last %q", len(got), got[len(got)-1])
	}

	var many []mapping.SendRule
	for i := range 30 {
		r := named(rule(t, "a", "224.0.0.1:1"), fmt.Sprint(i))
		r.Binding.TTL = 9
		many = append(many, r)
	}
	got = warnings(compile(t, many...))
	if len(got) != 42 || got[20] != "send: 415 more pairs of rules that send the same" || got[41] != "send: 10 more groups that stay on their link" {
		t.Errorf("30 equal rules: %d warnings: %q", len(got), got)
	}

	// 4,500 rules on one topic make ten million pairs.
	many = many[:0]
	for i := range 4500 {
		many = append(many, named(rule(t, "a", "239.1.1.1:1"), fmt.Sprint(i)))
	}
	got = warnings(compile(t, many...))
	if last := got[len(got)-1]; len(got) != 21 || !strings.HasSuffix(last, "found, then the search was cut short") {
		t.Errorf("4,500 equal rules: %d warnings, the last %q", len(got), last)
	}
}

// Filters that overlap in part have identifiers, which a broker of MQTT 5 names with each copy of a
// message; a rule has those of all that cover its filter.
func TestOverlappingFiltersHaveIdentifiers(t *testing.T) {
	table, err := mapping.Compile(rules(t, "site/3/+", "site/+/lamp", "site/3/lamp", "other/#", "other/x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]uint32{}
	for _, s := range table.Subscriptions() {
		ids[s.Filter] = s.ID
	}
	floor, lamp := ids["site/3/+"], ids["site/+/lamp"]
	if floor == 0 || lamp == 0 || floor == lamp || ids["other/#"] != 0 || len(ids) != 3 || floor >= 1<<28 || lamp >= 1<<28 {
		t.Errorf("identifiers %v", ids)
	}
	got := table.SubscriptionIDs()
	if !slices.Equal(got[0], []uint32{floor}) || !slices.Equal(got[1], []uint32{lamp}) || len(got[2]) != 2 || got[3] != nil || got[4] != nil {
		t.Errorf("of the rules: %v, with %d and %d", got, floor, lamp)
	}
	again, err := mapping.Compile(rules(t, "x/+", "site/+/lamp", "site/3/+"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range again.Subscriptions() {
		if was, known := ids[s.Filter]; known && s.ID != was {
			t.Errorf("%s has %d in another table, and had %d", s.Filter, s.ID, was)
		}
	}
}

// A subscription need not bring retained messages where no rule that it covers takes them.
func TestRetainedMessagesNeedNotComeForRulesThatTakeNone(t *testing.T) {
	list := rules(t, "a/#", "a/b", "c/#", "f/#", "c/d", "f/d", "e")
	list[3], list[5] = list[5], list[3] // the one that takes them comes first, or last
	for _, i := range []int{0, 1, 2, 5} {
		list[i].Retained = mapping.RetainedNever
	}
	got := map[string]bool{}
	for _, s := range compile(t, list...).Subscriptions() {
		got[s.Filter] = s.NoRetained
	}
	if want := map[string]bool{"a/#": true, "c/#": false, "f/#": false, "e": false}; !gocmp.Equal(want, got) {
		t.Error(gocmp.Diff(want, got))
	}
}
