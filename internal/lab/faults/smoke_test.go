//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// One fault in each direction, as --quick runs it: one that must lose nothing on any
// machine. (Where a carrier goes, what the kernel took a moment before may still be
// on its way into the cable.)
func TestItRuns(t *testing.T) {
	netlab.New(t) // where there can be none, nothing need be built
	if _, err := harness.FindMosquitto(); err != nil {
		netlab.Skip(t, "mosquitto is not installed: %v", err)
	}
	dir := t.TempDir()
	ctx := t.Context() // a build may take minutes, where the machine is busy
	if err := program.BuildTopicast(ctx, dir); err != nil {
		t.Fatal(err)
	}
	logs := t.TempDir()
	o, err := readFlags("--quick", "--parallel", "2", "--rate", "500", "--only", "bridge-restart,max-age", "--keep-logs", logs)
	if err != nil {
		t.Fatal(err)
	}
	o.times.hold = 300 * time.Millisecond
	b, err := newBuild(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	rows := runAll(ctx, b, dir, o)
	var table strings.Builder
	harness.PrintTable(&table, heads, rows)
	t.Log(table.String())
	for _, r := range rows {
		switch {
		case r.Absent != "":
			if r.fault == "bridge-restart" || b.has["spool"] {
				t.Errorf("%s: %s", r.fault, r.Absent)
			}
		case harness.Verdict(r) != "ok" || r.in == 0 || r.heal <= 0:
			t.Errorf("%s: %+v", r.fault, r)
		}
	}
}
