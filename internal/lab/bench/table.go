//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A figure is a column of a table.
type figure struct {
	key      string
	title    string
	of       func(sample) float64
	decimals int
	compared bool // beside it stands what topicast is to each peer
}

var (
	rateFigure = figure{"rate", "messages/s", func(s sample) float64 { return s.Rate }, 0, true}
	cpuFigure  = figure{"cpu", "CPU s/million", func(s sample) float64 { return s.CPU }, 2, true}
	idleFigure = figure{"idle", "idle MB", func(s sample) float64 { return s.Idle }, 1, false}
	peakFigure = figure{"peak", "peak MB", func(s sample) float64 { return s.Peak }, 1, false}
	p50Figure  = figure{"p50", "p50 µs", func(s sample) float64 { return s.P50 }, 0, true}
	p99Figure  = figure{"p99", "p99 µs", func(s sample) float64 { return s.P99 }, 0, true}
	// What the broker's own delivery takes is not the bridge's; see compare.
	addedFigure = figure{"added", "p50 above csub", nil, 0, true}
	startFigure = figure{"start", "start ms", func(s sample) float64 { return s.StartMS }, 1, true}
)

var figures = map[kind][]figure{
	flood:   {rateFigure, cpuFigure, idleFigure, peakFigure, startFigure},
	latency: {p50Figure, addedFigure, p99Figure, cpuFigure},
	clean:   {rateFigure, cpuFigure, p50Figure, p99Figure},
	search:  {rateFigure, cpuFigure, idleFigure, peakFigure},
	again:   {rateFigure, cpuFigure, idleFigure, peakFigure},
	paced:   {p50Figure, p99Figure, cpuFigure, idleFigure, peakFigure},
}

// A row is what all rounds of one peer gave.
type row struct {
	Peer       string             `json:"peer"`
	Medians    map[string]float64 `json:"medians"`
	TopicastIs map[string]float64 `json:"topicast_is"` // topicast's median divided by this peer's
	Lost       int                `json:"lost"`        // in all rounds, as the rest
	Disordered int                `json:"disordered"`
	Duplicates int                `json:"duplicates"`
	Wrong      int                `json:"wrong"`
	RigDrops   int                `json:"rig_drops"`
	Failures   []string           `json:"failures,omitempty"`
	Samples    []sample           `json:"samples"`
}

// newRow takes the medians of the samples that did not fail.
func newRow(k kind, peer string, samples []sample) row {
	r := row{Peer: peer, Medians: map[string]float64{}, TopicastIs: map[string]float64{}, Samples: samples}
	var good []sample
	for _, s := range samples {
		if s.Failure != "" {
			if !slices.Contains(r.Failures, s.Failure) {
				r.Failures = append(r.Failures, s.Failure)
			}
			continue
		}
		good = append(good, s)
		r.Lost += s.Lost
		r.Disordered += s.Late
		r.Duplicates += s.Duplicates
		r.Wrong += s.Wrong
		r.RigDrops += s.RigDrops
	}
	for _, f := range figures[k] {
		if f.of == nil || len(good) == 0 {
			continue
		}
		var values []float64
		for _, s := range good {
			values = append(values, f.of(s))
		}
		r.Medians[f.key] = median(values)
	}
	return r
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// compare fills in what depends on other rows: the latency added, and what
// topicast is to each.
func compare(k kind, rows []row) {
	find := func(peer string) *row {
		i := slices.IndexFunc(rows, func(r row) bool { return r.Peer == peer })
		if i < 0 {
			return nil
		}
		return &rows[i]
	}
	if csub := find("csub"); csub != nil {
		for _, r := range rows {
			mine, ok := r.Medians["p50"]
			own, there := csub.Medians["p50"]
			if ok && there && r.Peer != "csub" {
				r.Medians["added"] = mine - own
			}
		}
	}
	topicast := find("topicast")
	if topicast == nil {
		return
	}
	for _, r := range rows {
		for _, f := range figures[k] {
			mine, ok := topicast.Medians[f.key]
			other, there := r.Medians[f.key]
			if f.compared && ok && there && mine > 0 && other > 0 && r.Peer != "topicast" {
				r.TopicastIs[f.key] = mine / other
			}
		}
	}
}

// printTable prints one scenario.
func printTable(w io.Writer, s scenario, rows []row) {
	fmt.Fprintf(w, "\n%s: %s\n\n", s.name, s.about)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"", "lost"}
	for _, f := range figures[s.kind] {
		head = append(head, f.title)
		if f.compared {
			head = append(head, "topicast is")
		}
	}
	fmt.Fprintln(t, strings.Join(head, "\t")+"\t")
	for _, r := range rows {
		line := []string{r.Peer, lossText(r)}
		for _, f := range figures[s.kind] {
			line = append(line, number(r.Medians, f.key, f.decimals, ""))
			if f.compared {
				line = append(line, number(r.TopicastIs, f.key, 2, " x"))
			}
		}
		fmt.Fprintln(t, strings.Join(line, "\t")+"\t")
	}
	t.Flush()
	for _, r := range rows {
		for _, note := range notes(r) {
			fmt.Fprintf(w, "  %s: %s\n", r.Peer, note)
		}
	}
}

func lossText(r row) string {
	if len(r.Failures) == len(r.Samples) {
		return "–"
	}
	return strconv.Itoa(r.Lost)
}

// notes say what spoils a row.
func notes(r row) []string {
	list := slices.Clone(r.Failures)
	for _, n := range []struct {
		count int
		what  string
	}{
		{r.Disordered, "out of order"},
		{r.Duplicates, "duplicates"},
		{r.Wrong, "of another size or from another source"},
		{r.RigDrops, "lost by the counting device itself, not by the bridge"},
	} {
		if n.count > 0 {
			list = append(list, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	return list
}

// number writes a value with its thousands apart, and "–" where there is none.
func number(values map[string]float64, key string, decimals int, unit string) string {
	v, ok := values[key]
	if !ok || math.IsNaN(v) {
		return "–"
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	whole, rest, _ := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return sign + whole + rest + unit
}
