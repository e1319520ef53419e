package receive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Of many rules that change their state together the log names one, and says how many more
// there are; of a few it names each.
func TestRulesThatChangeTogetherAreOneLine(t *testing.T) {
	var log bytes.Buffer
	o := rigOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	var rules []mapping.ReceiveRule
	for i := range 1000 {
		rules = append(rules, fake.ReceiveRule(t, fmt.Sprint("m", i), fmt.Sprintf("239.1.%d.%d:5000", i/250, i%250), "a"))
	}
	alone := fake.ReceiveRule(t, "alone", "239.9.1.1:5000", "b")
	alone.Interface = "absent0"
	rules = append(rules, alone)
	receiving(t, o, nil, rules, func(b *rig, n *fake.Network) {
		down := fake.Iso0
		down.Up = false
		n.Set(down)
		b.reconcile(t.Context())
	})
	var told []string
	for line := range strings.Lines(log.String()) {
		if _, line, is := strings.Cut(line, "rule="); is {
			told = append(told, line)
		}
	}
	want := []string{`m0 more_rules=999 interface=iso0 joined=1 `, `alone interface=absent0 `, `m0 more_rules=999 interface=iso0 joined=1 `}
	if len(told) != len(want) {
		t.Fatalf("told:\n%s", log.String())
	}
	for i := range want {
		if !strings.HasPrefix(told[i], want[i]) {
			t.Errorf("told %s\nwant %s", told[i], want[i])
		}
	}
}

// At log.level debug the log has each message, and else none.
func TestDebugLogsEachMessageAndInfoNone(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 0} {
		var log bytes.Buffer
		o := rigOptions{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}
		receiving(t, o, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}, func(b *rig, n *fake.Network) {
			n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "22")
		})
		if got := strings.Count(log.String(), "msg=published rule=r topic=t group=239.1.1.1:5000 source="+fake.Device); got != want {
			t.Errorf("at %v: %d lines, want %d:\n%s", level, got, want, &log)
		}
	}
}
