//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// One attack that topicast stands, and the same network with a bridge that somebody
// stops for good meanwhile: the first row is ok, and the second is not.
func TestItRuns(t *testing.T) {
	netlab.New(t) // where there can be none, nothing need be built
	if _, err := harness.FindMosquitto(); err != nil {
		netlab.Skip(t, "mosquitto is not installed: %v", err)
	}
	dir := t.TempDir()
	if err := program.BuildTopicast(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	o, err := readFlags("--quick", "--only", "web-rebinding")
	if err != nil {
		t.Fatal(err)
	}
	o.times.attack, o.times.heal = time.Second, 6*time.Second
	o.attacks = append(o.attacks, attack{name: "stopped", about: "stopped", victims: toVictim, run: func(r *rig) {
		r.bridge.Kill()
		<-r.bridge.Exited()
	}})
	rows := runAll(t.Context(), dir, o)
	var table strings.Builder
	harness.PrintTable(&table, heads, rows)
	t.Log(table.String())
	if r := rows[0]; harness.Verdict(r) != "ok" || r.In == 0 || r.Cost.Requests == 0 || r.Heal < 0 {
		t.Errorf("%s: %v, %+v", r.Name, harness.Faulty(r), r)
	}
	if r := rows[1]; harness.Verdict(r) != "FAIL" || r.Died == "" || r.Heal >= 0 {
		t.Errorf("%s: %v, %+v", r.Name, harness.Faulty(r), r)
	}
}
