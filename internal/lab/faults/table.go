//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is what one fault did in one direction.
type row struct {
	fault, about   string
	way            way
	in, out        int
	duplicates     int
	disorders      int
	drops          int // counted by topicast
	heal           time.Duration
	neverRecovered bool     // nothing arrived after the fault
	limited        bool     // a limit was set to be exceeded
	once           bool     // nothing may come twice
	failures       []string // what else is not as it should be
	notes          []string
	absent         string // why the row shows nothing; empty: it does
}

// Why a row shows nothing.
const (
	notInBuild  = "not in this build, or not in this kernel"
	notAsked    = "not asked for (--step-clock)"
	interrupted = "interrupted"
)

// inDoubt is how many messages may have left and still be counted as dropped: those
// of the call to the kernel in whose time the carrier went. They wait to leave again,
// and where a limit was set to be exceeded, never do.
const inDoubt = 64

func (r row) lost() int { return r.in - r.out }

// faulty lists what makes the row a failure; none: it is ok.
func (r row) faulty() (reasons []string) {
	switch {
	case r.absent != "":
		return nil
	case r.in == 0:
		reasons = append(reasons, "no message went in")
	case r.limited && (r.drops < r.lost() || r.drops > r.lost()+inDoubt):
		reasons = append(reasons, fmt.Sprintf("%d lost, and %d counted as dropped", r.lost(), r.drops))
	case !r.limited && r.lost() != 0:
		reasons = append(reasons, fmt.Sprintf("%d lost", r.lost()))
	}
	if r.once && r.duplicates > 0 {
		reasons = append(reasons, fmt.Sprintf("%d came twice", r.duplicates))
	}
	if r.disorders > 0 {
		reasons = append(reasons, fmt.Sprintf("%d out of order", r.disorders))
	}
	if r.neverRecovered {
		reasons = append(reasons, "nothing arrived after the fault")
	}
	return append(reasons, r.failures...)
}

func (r row) verdict() string {
	switch {
	case r.absent != "":
		return r.absent
	case len(r.faulty()) > 0:
		return "FAIL"
	}
	return "ok"
}

var heads = []string{"fault", "way", "in", "out", "lost", "duplicated", "disordered", "dropped", "heal, s", ""}

// cells are the row as it is printed.
func (r row) cells() []string {
	if r.absent != "" {
		return []string{r.about, string(r.way), "", "", "", "", "", "", "", r.verdict()}
	}
	number := func(n int) string { return fmt.Sprint(n) }
	heal := fmt.Sprintf("%.3f", r.heal.Seconds())
	if r.neverRecovered {
		heal = "never"
	}
	return []string{r.about, string(r.way), number(r.in), number(r.out), number(r.lost()), number(r.duplicates),
		number(r.disorders), number(r.drops), heal, r.verdict()}
}

// remarks are the row's lines below the table: why it failed, and what else it showed.
func (r row) remarks() (lines []string) {
	if r.absent != "" {
		return nil
	}
	for _, why := range r.faulty() {
		lines = append(lines, "FAIL: "+why)
	}
	return append(lines, r.notes...)
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

// printMarkdown prints them for docs/reliability.md.
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
			fmt.Fprintf(w, "%s%s (%s): %s\n", bullet, r.about, r.way, remark)
		}
	}
}
