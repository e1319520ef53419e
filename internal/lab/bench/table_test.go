//go:build linux

package main

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{5}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 100, 1, 2}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNumbersAreReadable(t *testing.T) {
	for _, c := range []struct {
		v        float64
		decimals int
		want     string
	}{
		{0, 0, "0"}, {999, 0, "999"}, {1000, 0, "1 000"}, {1234567.8, 1, "1 234 567.8"}, {-4321, 0, "-4 321"}, {-5, 2, "-5.00"},
	} {
		if got := number(map[string]float64{"k": c.v}, "k", c.decimals, ""); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
	if got := number(map[string]float64{}, "k", 0, " x"); got != "–" {
		t.Errorf("where there is none: %q", got)
	}
}

func TestRowsHaveTheMediansOfWhatDidNotFail(t *testing.T) {
	got := newRow(flood, "c", []sample{
		{Rate: 10, Lost: 1, result: result{Late: 2, Duplicates: 3, Wrong: 4, RigDrops: 5}},
		{Failure: "ended"},
		{Rate: 30, Lost: 1, CPU: 4},
		{Failure: "ended"},
		{Rate: 20},
	})
	got.Samples = nil
	want := row{
		Peer: "c", TopicastIs: map[string]float64{},
		Medians: map[string]float64{"rate": 20, "cpu": 0, "idle": 0, "peak": 0, "start": 0},
		Lost:    2, Disordered: 2, Duplicates: 3, Wrong: 4, RigDrops: 5, Failures: []string{"ended"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestComparisons(t *testing.T) {
	latencyRow := func(peer string, p50 float64) row {
		return newRow(latency, peer, []sample{{result: result{P50: p50, P99: 2 * p50}, CPU: 1}})
	}
	rows := []row{
		latencyRow("csub", 100), latencyRow("topicast", 130), latencyRow("c", 120), latencyRow("fast", 90),
		newRow(latency, "broken", []sample{{Failure: "ended"}}),
	}
	compare(latency, rows)
	var added, ratios []map[string]float64
	for _, r := range rows {
		a := map[string]float64{}
		if v, ok := r.Medians["added"]; ok {
			a[r.Peer] = v
		}
		added, ratios = append(added, a), append(ratios, r.TopicastIs)
	}
	if diff := cmp.Diff([]map[string]float64{{}, {"topicast": 30}, {"c": 20}, {"fast": -10}, {}}, added); diff != "" {
		t.Errorf("added to csub (-want +got):\n%s", diff)
	}
	want := []map[string]float64{
		{"p50": 1.3, "p99": 1.3, "cpu": 1},
		{},
		{"p50": 130.0 / 120, "p99": 260.0 / 240, "cpu": 1, "added": 1.5},
		{"p50": 130.0 / 90, "p99": 260.0 / 180, "cpu": 1}, // no ratio to less than nothing
		{},
	}
	if diff := cmp.Diff(want, ratios); diff != "" {
		t.Errorf("topicast is (-want +got):\n%s", diff)
	}

	faster := []row{latencyRow("csub", 100), latencyRow("topicast", 90), latencyRow("c", 120)}
	compare(latency, faster)
	if ratio, ok := faster[2].TopicastIs["added"]; ok {
		t.Errorf("less than nothing is %v of what c adds", ratio)
	}
	none := []row{latencyRow("c", 120)}
	compare(latency, none)
	if len(none[0].TopicastIs) != 0 {
		t.Errorf("without topicast it is %v", none[0].TopicastIs)
	}
}

func TestTheTable(t *testing.T) {
	s := scenario{name: "receive-1", about: "what it is", kind: search}
	rows := []row{
		newRow(search, "topicast", []sample{{Rate: 500_000, CPU: 1.5, Idle: 20, Peak: 21}}),
		newRow(search, "c", []sample{{Rate: 40_000, CPU: 12, Idle: 3, Peak: 3.25, Lost: 7, result: result{Late: 2}}}),
		newRow(search, "python", []sample{{Failure: "ended"}}),
	}
	compare(search, rows)
	var b strings.Builder
	printTable(&b, s, rows)
	const want = `
receive-1: what it is

            lost  messages/s  topicast is  CPU s/million  topicast is  idle MB  peak MB
  topicast     0     500 000            –           1.50            –     20.0     21.0
         c     7      40 000      12.50 x          12.00       0.12 x      3.0      3.2
    python     –           –            –              –            –        –        –
  c: 2 out of order
  python: ended
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
