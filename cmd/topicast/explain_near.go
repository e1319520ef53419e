package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"topicast/mapping"
)

// explainNone tells what a topic that no rule knows comes near to.
func explainNone(out io.Writer, topic string, rulesOf *mapping.Table) {
	rulesOf = rulesOf.Configured()
	rules := rulesOf.Send()
	fmt.Fprintf(out, "%s matches none of %s: drop no_rule\n", printable(topic), count(len(rules), "send rule"))
	near := append(misspelt(topic, rulesOf), nearest(topic, rules)...)
	const most = 5
	t, seen := &table{}, make(map[string]bool)
	for _, n := range near {
		if !seen[n.filter] && len(*t) < most {
			seen[n.filter] = true
			t.row("  "+n.filter, n.why)
		}
	}
	if len(*t) == 0 {
		return
	}
	fmt.Fprint(out, "\nnearest:\n")
	_ = t.print(out) // the output is watched
}

// neighbour is a filter that a topic matches up to a level, or that it would match
// if it were written in another way.
type neighbour struct {
	filter string
	levels int // how many match
	why    string
}

// misspelt finds the rules that know the topic with other slashes at its ends, or
// without blanks around it.
func misspelt(topic string, t *mapping.Table) (near []neighbour) {
	bare := strings.Trim(strings.TrimSpace(topic), "/")
	for strings.Contains(bare, "//") {
		bare = strings.ReplaceAll(bare, "//", "/")
	}
	for _, other := range []string{bare, "/" + bare, bare + "/", "/" + bare + "/"} {
		if bare == "" || other == topic {
			continue
		}
		in := difference(topic, other)
		// A wildcard would take the empty level too that a slash more makes.
		slashes := func(written string) bool {
			return (!strings.HasPrefix(other, "/") || strings.HasPrefix(written, "/")) &&
				(!strings.HasSuffix(other, "/") || strings.HasSuffix(written, "/"))
		}
		for _, r := range t.Send() {
			if r.Filter.Match(other) && slashes(r.Filter.MQTT()) {
				near = append(near, neighbour{filter: r.Filter.String(), why: fmt.Sprintf("matches %s, %s", other, in)})
			}
		}
		for i, r := range t.Receive() {
			if r.Topic.Matches(other) && slashes(r.Topic.String()) {
				near = append(near, neighbour{filter: r.Topic.String(), why: fmt.Sprintf("%s can publish %s, %s", ruleTitle("receive", i, r.Name), other, in)})
			}
		}
	}
	return near
}

// difference tells in what a topic differs from one whose words are the same.
func difference(topic, other string) string {
	var in []string
	trimmed := strings.TrimSpace(topic)
	if trimmed != topic {
		in = append(in, "without the spaces around it")
	}
	for _, end := range []struct {
		has   func(s, slash string) bool
		where string
	}{{strings.HasPrefix, "in front"}, {strings.HasSuffix, "at the end"}} {
		switch has, wants := end.has(trimmed, "/"), end.has(other, "/"); {
		case has && !wants:
			in = append(in, "without the slash "+end.where)
		case wants && !has:
			in = append(in, "with a slash "+end.where)
		}
	}
	if strings.Contains(strings.Trim(trimmed, "/"), "//") {
		in = append(in, "without the empty level")
	}
	return strings.Join(in, ", ")
}

// nearest finds the filters that match the longest part of a topic, the longest
// first, and says where each parts from it.
func nearest(topic string, rules []mapping.SendRule) []neighbour {
	const most = 5
	var near []neighbour
	for _, r := range rules {
		if n := compare(topic, r.Filter); n.levels > 0 || strings.HasPrefix(n.why, caseDiffers) {
			near = append(near, n)
		}
	}
	slices.SortStableFunc(near, func(a, b neighbour) int { return cmp.Compare(b.levels, a.levels) })
	return near[:min(len(near), most)]
}

const caseDiffers = "upper and lower case differ"

// compare walks a topic and a filter that does not match it, level by level.
func compare(topic string, f mapping.Filter) neighbour {
	n := neighbour{filter: f.String()}
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(f.MQTT(), "$") {
		n.why = "no wildcard stands for a first level with $" // [MQTT-4.7.2-1]
		return n
	}
	have, want := strings.Split(topic, "/"), strings.Split(f.MQTT(), "/")
	for i, level := range want {
		switch {
		case i == len(have):
			n.why = fmt.Sprintf("the topic ends after level %d of %d", i, len(want))
			return n
		case level == "+" || level == have[i]:
			n.levels++
			continue
		case strings.EqualFold(level, have[i]):
			n.why = fmt.Sprintf("%s at level %d: %s, not %s", caseDiffers, i+1, level, have[i])
		default:
			n.why = fmt.Sprintf("level %d is %s, not %s", i+1, quoteEmpty(level), quoteEmpty(have[i]))
		}
		return n
	}
	n.why = fmt.Sprintf("the topic goes on after level %d", len(want))
	return n
}

// quoteEmpty makes a level visible that has no characters.
func quoteEmpty(level string) string {
	if level == "" {
		return `empty ("")`
	}
	return level
}
