//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/harness"
)

func TestARowIsOkOnlyIfNothingIsWrong(t *testing.T) {
	good := row{fault: "x", about: "x", way: sending, in: 100, out: 100, duplicates: 7}
	for _, tt := range []struct {
		name   string
		change func(*row)
		want   string
		why    []string
	}{
		{"all arrived", func(r *row) {}, "ok", nil},
		{"one lost", func(r *row) { r.out-- }, "FAIL", []string{"1 lost"}},
		{"one lost, and counted, without a limit", func(r *row) { r.out--; r.drops = 1 }, "FAIL", []string{"1 lost"}},
		{"a limit, and the drops are the losses", func(r *row) { r.limited = true; r.out, r.drops = 60, 40 }, "ok", nil},
		{"a limit, and more is lost than counted", func(r *row) { r.limited = true; r.out, r.drops = 60, 39 }, "FAIL", []string{"40 lost, and 39 counted as dropped"}},
		{"a limit, and some of what is counted has left", func(r *row) { r.limited = true; r.drops = inDoubt }, "ok", nil},
		{"a limit, and more is counted than lost", func(r *row) { r.limited = true; r.drops = inDoubt + 1 }, "FAIL", []string{"0 lost, and 65 counted as dropped"}},
		{"one came twice, where nothing may", func(r *row) { r.once = true; r.duplicates = 1 }, "FAIL", []string{"1 came twice"}},
		{"each came once, where nothing may come twice", func(r *row) { r.once = true; r.duplicates = 0 }, "ok", nil},
		{"out of order", func(r *row) { r.disorders = 2 }, "FAIL", []string{"2 out of order"}},
		{"never healed", func(r *row) { r.neverRecovered = true }, "FAIL", []string{"nothing arrived after the fault"}},
		{"nothing went in", func(r *row) { r.in, r.out = 0, 0 }, "FAIL", []string{"no message went in"}},
		{"the run failed", func(r *row) { r.Failures = []string{"why"} }, "FAIL", []string{"why"}},
		{"not there", func(r *row) { r.Absent = notInBuild; r.in = 0 }, "not in this build, or not in this kernel", nil},
	} {
		r := good
		tt.change(&r)
		if got := harness.Verdict(r); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if diff := cmp.Diff(tt.why, harness.Faulty(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestARowShowsWhatBecameOfTheMessages(t *testing.T) {
	r := row{about: "gone", way: sending, in: 2000, out: 1500, duplicates: 1, disorders: 2, drops: 3, heal: 1234 * time.Millisecond}
	never := row{about: "gone", way: receiving, in: 10, out: 10, neverRecovered: true}
	var table strings.Builder
	harness.PrintMarkdown(&table, heads, []row{r, never})
	for _, want := range []string{"| gone | send | 2000 | 1500 | 500 | 1 | 2 | 3 | 1.234 | FAIL |\n", "| gone | receive | 10 | 10 | 0 | 0 | 0 | 0 | never | FAIL |\n", "- gone (send): FAIL: 500 lost\n"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}
