//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

var heads = []string{"attack", "cost", "in", "lost", "uncounted", "neighbours", "over idle, MB", "lines", "heal, s", ""}

// cells are the row as it is printed.
func (r row) cells() []string {
	if r.Absent != "" {
		return []string{r.About, "", "", "", "", "", "", "", "", r.verdict()}
	}
	number := func(n int) string { return fmt.Sprint(n) }
	heal, neighbours := "never", "none"
	if r.Heal >= 0 {
		heal = fmt.Sprintf("%.1f", r.Heal.Seconds())
	}
	if r.Neighbours >= 0 {
		neighbours = fmt.Sprintf("%.2f", r.Neighbours)
	}
	return []string{r.About, r.Cost.String(), number(r.In), number(r.Lost), number(r.Uncounted), neighbours,
		fmt.Sprintf("%.0f", r.OverIdle), number(r.Lines), heal, r.verdict()}
}

// remarks are the row's lines below the table: why it failed, and what else it showed.
func (r row) remarks() (lines []string) {
	if r.Absent != "" {
		return nil
	}
	for _, why := range r.faulty() {
		lines = append(lines, "FAIL: "+why)
	}
	return append(lines, r.Notes...)
}

// printTable prints the rows for a terminal.
func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	t.Flush()
	printRemarks(w, rows, "  ")
}

// printMarkdown prints them for docs/security.md.
func printMarkdown(w io.Writer, rows []row) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(heads)
	line([]string{"---", "---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "---"})
	for _, r := range rows {
		cells := r.cells()
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		line(cells)
	}
	printRemarks(w, rows, "- ")
}

func printRemarks(w io.Writer, rows []row, bullet string) {
	first := true
	for _, r := range rows {
		for _, remark := range r.remarks() {
			if first {
				fmt.Fprintln(w)
				first = false
			}
			fmt.Fprintf(w, "%s%s (%s): %s\n", bullet, r.About, r.Name, remark)
		}
	}
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
		all = append(all, judged{r, r.verdict(), r.faulty()})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(all) // a row has nothing that JSON has not
}
