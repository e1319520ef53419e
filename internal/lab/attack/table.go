//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"topicast/internal/lab/harness"
)

var heads = []string{"attack", "cost", "in", "lost", "uncounted", "neighbours", "over idle, MB", "lines", "heal, s", ""}

// Names is the row's part of [harness.Row], as the methods below are.
func (r row) Names() []string { return []string{r.About} }

func (r row) Title() string { return fmt.Sprintf("%s (%s)", r.About, r.Name) }

func (r row) Figures() []string {
	number := func(n int) string { return fmt.Sprint(n) }
	heal, neighbours := "never", "none"
	if r.Heal >= 0 {
		heal = fmt.Sprintf("%.1f", r.Heal.Seconds())
	}
	if r.Neighbours >= 0 {
		neighbours = fmt.Sprintf("%.2f", r.Neighbours)
	}
	return []string{r.Cost.String(), number(r.In), number(r.Lost), number(r.Uncounted), neighbours,
		fmt.Sprintf("%.0f", r.OverIdle), number(r.Lines), heal}
}

// printJSON prints all that is known of each row, with its verdict.
func printJSON(w io.Writer, rows []row) {
	type judged struct {
		row
		Verdict string   `json:"verdict"`
		Why     []string `json:"why,omitempty"`
	}
	all := make([]judged, 0, len(rows))
	for _, r := range rows {
		all = append(all, judged{r, harness.Verdict(r), harness.Faulty(r)})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(all) // a row has nothing that JSON has not
}
