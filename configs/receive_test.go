package configs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

const (
	oneReceive = "receive: [{group: \"239.1.2.3:5000\", interface: eth0, topic: \"in/{source}\"}]\n"

	// What is published on lamps/all is sent to the group it came from.
	cycle = `send: [{filter: lamps/#, group: "239.1.2.3:5000", interface: eth0}]
receive: [{group: "239.1.2.3:5000", interface: eth0, topic: lamps/all}]
`
)

func mustLoad(t *testing.T, yaml string, flags *pflag.FlagSet) *Config {
	t.Helper()
	c, err := load("x.yaml", []byte(yaml), flags)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRulesOfOneDirectionAreEnough(t *testing.T) {
	for yaml, want := range map[string][2]int{
		oneRule:                    {1, 0},
		oneReceive:                 {0, 1},
		oneRule + oneReceive:       {1, 1},
		"send:\n" + oneReceive:     {0, 1},
		"send: []\n" + oneReceive:  {0, 1},
		oneRule + "receive:\n":     {1, 0},
		oneRule + "receive: []\n":  {1, 0},
		"loops: {}\n" + oneReceive: {0, 1},
		"\n\n# x\n" + oneReceive:   {0, 1},
	} {
		c := mustLoad(t, yaml, nil)
		if got := [2]int{len(c.Table.Send()), len(c.Table.Receive())}; got != want {
			t.Errorf("%q: %v rules, want %v", yaml, got, want)
		}
	}
}

func TestWithoutAnyRuleThereIsNothingToDo(t *testing.T) {
	for _, yaml := range []string{"", "send: []\nreceive: []\n", "send:\n", "receive:\n", "log: {level: debug}\n"} {
		_, err := load("x.yaml", []byte(yaml), nil)
		if err == nil || err.Error() != "x.yaml: no rules, neither in send nor in receive: there is nothing to do" {
			t.Errorf("%q: %v", yaml, err)
		}
	}
}

// One value stands for a list of one, and nothing for everybody.
func TestGroupsAndSourcesAreOneValueOrAList(t *testing.T) {
	for written, want := range map[string]string{
		`group: 239.1.2.3:5000`:                                 "[239.1.2.3:5000] []",
		`group: ["239.1.2.3:5000"]`:                             "[239.1.2.3:5000] []",
		`group: [239.1.2.3:5000, 239.1.2.4:5001]`:               "[239.1.2.3:5000 239.1.2.4:5001] []",
		`group: 239.1.2.3-239.1.2.5:5000`:                       "[239.1.2.3-239.1.2.5:5000] []",
		`{group: 239.1.2.3:5000, source: ""}`:                   "[239.1.2.3:5000] []",
		`{group: 239.1.2.3:5000, source: []}`:                   "[239.1.2.3:5000] []",
		`{group: 239.1.2.3:5000, source: 192.0.2.7}`:            "[239.1.2.3:5000] [192.0.2.7/32]",
		`{group: 239.1.2.3:5000, source: [192.0.2.0/24]}`:       "[239.1.2.3:5000] [192.0.2.0/24]",
		`{group: 239.1.2.3:5000, source: [10.0.0.1, 10.0.0.2]}`: "[239.1.2.3:5000] [10.0.0.1/32 10.0.0.2/32]",
	} {
		c := mustLoad(t, "receive: [{<<: {"+strings.Trim(written, "{}")+"}, interface: eth0, topic: in}]", nil)
		r := c.Table.Receive()[0]
		if got := fmt.Sprint(r.Groups, " ", r.Sources); got != want {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
}

// A rule's keys are its own: nothing is left of the rule before it.
func TestReceiveRulesShareNothing(t *testing.T) {
	c := mustLoad(t, `
receive:
  - {group: 239.1.2.3:5000, interface: eth0, source: 192.0.2.7, topic: a, qos: 2, retain: true, payload: hex, every: 1s, on_change: true}
  - {group: 239.1.2.4:5000, interface: eth1, topic: b}
`, nil)
	r := c.Table.Receive()[1]
	if r.QoS != 1 || r.Retain || !r.Encoding.Raw() || r.Every != 0 || r.OnChange || r.Sources != nil {
		t.Errorf("%+v", r)
	}
}

// Both ways of writing true and false work on a command line and in a variable.
func TestLoopsFromFlagsAndVariables(t *testing.T) {
	for _, args := range [][]string{{"--loops-guard=false"}, {"--loops-guard", "false"}} {
		flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
		AddFlags(flags)
		if err := flags.Parse(append(args, "--loops-hold=5ms", "--broker-max-in-flight=20")); err != nil {
			t.Fatal(err)
		}
		c := mustLoad(t, "loops: {guard: true, memory: 9}\n"+oneReceive, flags)
		if got := fmt.Sprint(c.Loops, " ", c.Broker.MaxInFlight); got != "{false 9 10s 5ms 100} 20" {
			t.Errorf("%q: %s", args, got)
		}
	}
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--loops-guard"}); err == nil {
		t.Error("--loops-guard alone: no error")
	}
	for name, want := range map[string]string{"loops-guard": "true|false", "loops-breaker": "number", "loops-hold": "duration"} {
		if got := flags.Lookup(name).Value.Type(); got != want {
			t.Errorf("--%s takes %s, want %s", name, got, want)
		}
	}
	for written, want := range map[string]bool{"false": false, "FALSE": false, "0": false, "true": true, "True": true, "1": true, "": true} {
		t.Setenv("TOPICAST_LOOPS_GUARD", written)
		if c := mustLoad(t, oneReceive, nil); c.Loops.Guard != want {
			t.Errorf("%q: %v", written, c.Loops.Guard)
		}
	}
	t.Setenv("TOPICAST_LOOPS_GUARD", "off")
	_, err := load("x.yaml", []byte(oneReceive), nil)
	if err == nil || err.Error() != `TOPICAST_LOOPS_GUARD: loops.guard: "off" is neither true nor false` {
		t.Error(err)
	}
}

// Without a guard, rules on a cycle are a warning; without the breaker as well,
// they are refused. Both are told where the guard was turned off.
func TestCyclesNeedAGuard(t *testing.T) {
	const without = "off, though what receive[0] publishes can come back to it through the rules of send"
	loopWarnings := func(c *Config) (texts []string) {
		for _, w := range c.Warnings {
			if strings.HasPrefix(w.Path, "loops") {
				texts = append(texts, w.Error())
			}
		}
		return texts
	}
	c := mustLoad(t, cycle, nil)
	if got := loopWarnings(c); got != nil || len(c.Warnings) == 0 {
		t.Errorf("with the guard: %q of %v", got, c.Warnings)
	}
	c = mustLoad(t, "loops: {guard: false}\n"+cycle, nil)
	want := []string{"x.yaml:1:16: loops.guard: " + without + ": it goes round until loops.breaker stops the rule, at 100 a second"}
	if diff := cmp.Diff(want, loopWarnings(c)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !slices.IsSortedFunc(c.Warnings, func(a, b *Error) int { return a.Line - b.Line }) {
		t.Errorf("not in the order of the file:\n%v", c.Warnings)
	}
	c = mustLoad(t, "loops: {guard: false, breaker: 0}\n"+oneRule+oneReceive, nil)
	if len(c.Warnings) > 0 {
		t.Errorf("without a cycle: %v", c.Warnings)
	}
	if _, err := load("x.yaml", []byte("loops: {breaker: 0}\n"+cycle), nil); err != nil {
		t.Errorf("with the guard alone: %v", err)
	}

	t.Setenv("TOPICAST_LOOPS_GUARD", "false")
	c = mustLoad(t, cycle, nil)
	want = []string{"TOPICAST_LOOPS_GUARD: loops.guard: " + without + ": it goes round until loops.breaker stops the rule, at 100 a second"}
	if diff := cmp.Diff(want, loopWarnings(c)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if last := c.Warnings[len(c.Warnings)-1]; last.Origin != "TOPICAST_LOOPS_GUARD" || len(c.Warnings) < 2 {
		t.Errorf("those of the file do not come first:\n%v", c.Warnings)
	}
	_, err := load("x.yaml", []byte("loops: {guard: true, breaker: 0}\n"+cycle), nil)
	if want := "TOPICAST_LOOPS_GUARD: loops.guard: " + without + ": with loops.breaker off too, one datagram would go round for ever"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

// Whoever multicasts could otherwise declare us dead, or alive.
func TestReceiveTopicsThatMayBeTheStatusTopicAreWarnedOf(t *testing.T) {
	const other = "{group: 239.1.2.3:5000, interface: eth0, topic: "
	for topic, warned := range map[string]bool{
		"topicast/gw/status":         true,
		"topicast/{text@0:2}/status": true,
		"topicast/{source}/status":   false, // gw is no address
		"{name}/gw/{interface}":      true,
		"topicast/{group/2}/status":  false, // nor a number
		"topicast/{source}/state":    false,
		"topicast/{source}":          false,
		"meters/{source}/{port}":     false,
		"topicast/gw/status/{group}": false,
	} {
		yaml := "broker: {client_id: gw}\nreceive:\n  - " + other + "in}\n  - {group: 239.1.2.4:5000, interface: eth0, name: topicast, topic: \"" + topic + "\"}\n"
		c := mustLoad(t, yaml, nil)
		want := "x.yaml:4:69: receive[1].topic: can be our own status topic topicast/gw/status, so a datagram can take the place of online and offline"
		if got := c.Warnings.Error(); warned && got != want || !warned && got != "" {
			t.Errorf("%s: %q", topic, got)
		}
	}
	c := mustLoad(t, "broker: {status_topic: \"\"}\nreceive:\n  - "+other+"\"{source}\"}\n", nil)
	if len(c.Warnings) > 0 {
		t.Errorf("without a status topic: %v", c.Warnings)
	}
}

// Where the broker keeps the last message, an empty datagram would delete it: that
// takes a word.
func TestEmptyDatagramsAreDroppedWhereTheyWouldDelete(t *testing.T) {
	for keys, want := range map[string]bool{
		"":                               false,
		", retain: true":                 true,
		", retain: true, empty: publish": false,
		", retain: true, empty: drop":    true,
		", empty: publish":               false,
		", empty: drop":                  true,
	} {
		c := mustLoad(t, "receive: [{group: 239.1.2.3:5000, interface: eth0, topic: a"+keys+"}]\n", nil)
		if got := c.Table.Receive()[0].DropEmpty; got != want {
			t.Errorf("%q drops what is empty: %v", keys, got)
		}
	}
	for keys, want := range map[string]bool{"": false, ", empty: send": false, ", empty: drop": true} {
		c := mustLoad(t, "send: [{filter: a, group: 239.1.2.3:5000, interface: eth0"+keys+"}]\n", nil)
		if got := c.Table.Send()[0].DropEmpty; got != want {
			t.Errorf("send %q drops what is empty: %v", keys, got)
		}
	}
}
