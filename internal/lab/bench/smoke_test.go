//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// One scenario in each direction, as --quick runs it: everything is built, runs
// in its namespaces, and loses nothing. How fast is no test's matter.
func TestItMeasures(t *testing.T) {
	netlab.New(t) // where there can be none, nothing need be built
	dir := t.TempDir()
	missing := ""
	note := func(format string, args ...any) { missing += fmt.Sprintf(format, args...) + "\n" }
	ctx := t.Context() // a build may take minutes, where the machine is busy
	if err := errors.Join(program.BuildTopicast(ctx, dir), build(ctx, dir, func(string, ...any) {})); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"send-100", "receive-128"} {
		t.Run(name, func(t *testing.T) {
			o, err := readFlags("--quick", "--only", name)
			if err != nil {
				t.Fatal(err)
			}
			tools, err := findTools(dir, note)
			if err != nil {
				t.Fatal(err)
			}
			s := o.scenarios[0]
			rows, err := o.bench(newRig(t, dir), tools).rounds(ctx, s, 1, note)
			if err != nil {
				t.Fatal(err)
			}
			var table strings.Builder
			printTable(&table, s, rows)
			t.Log(table.String())
			measured := map[string]bool{}
			for _, r := range rows {
				measured[r.Peer] = true
				if len(r.Failures) > 0 || r.Medians["rate"] <= 0 || r.Medians["cpu"] <= 0 || r.Medians["peak"] <= 0 {
					t.Errorf("%s: %v, medians %v", r.Peer, r.Failures, r.Medians)
				}
				if lost := r.Lost - r.RigDrops; lost > 0 || r.Disordered > 0 || r.Duplicates > 0 || r.Wrong > 0 {
					t.Errorf("%s: %d lost; %q", r.Peer, lost, notes(r))
				}
			}
			for _, peer := range s.peers {
				if _, err := tools.peer(peer, s); err == nil && !measured[peer] {
					t.Errorf("%s was not measured", peer)
				}
			}
		})
	}
	if missing != "" {
		netlab.Skip(t, "some peers were not measured:\n%s", missing)
	}
}
