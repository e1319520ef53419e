package harness

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// An Outcome is what a row of a table has beside its figures. A row embeds it.
type Outcome struct {
	Failures []string `json:"failures,omitempty"` // what is not as it should be, beside what the figures say
	Notes    []string `json:"notes,omitempty"`    // what else the run showed
	Absent   string   `json:"absent,omitempty"`   // why the row shows nothing; empty: it does
}

// Interrupted is why a row shows nothing whose run was.
const Interrupted = "interrupted"

// Fail notes what is not as it should be.
func (o *Outcome) Fail(format string, args ...any) {
	o.Failures = append(o.Failures, fmt.Sprintf(format, args...))
}

// Note notes what the run showed beside the figures.
func (o *Outcome) Note(format string, args ...any) {
	o.Notes = append(o.Notes, fmt.Sprintf(format, args...))
}

func (o Outcome) outcome() Outcome { return o }

// A Row is what one run of a program showed.
type Row interface {
	Names() []string   // its first cells: what was run
	Figures() []string // the cells after them, but for the verdict
	Title() string     // what its remarks begin with
	Judge() []string   // what is wrong with the figures; none: they are good

	outcome() Outcome // of the [Outcome] that it embeds
}

// Faulty lists what makes a row a failure; none: it is ok, or shows nothing.
func Faulty(r Row) []string {
	if r.outcome().Absent != "" {
		return nil
	}
	return append(r.Judge(), r.outcome().Failures...)
}

// Verdict is the last cell of a row.
func Verdict(r Row) string {
	switch {
	case r.outcome().Absent != "":
		return r.outcome().Absent
	case len(Faulty(r)) > 0:
		return "FAIL"
	}
	return "ok"
}

// Failed is an error if one of the rows is a failure; what says what they did, as in
// "1 of 2 rows failed".
func Failed[R Row](rows []R, what string) error {
	n := 0
	for _, r := range rows {
		if len(Faulty(r)) > 0 {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d %s", n, len(rows), what)
	}
	return nil
}

// PrintTable prints rows for a terminal.
func PrintTable[R Row](w io.Writer, heads []string, rows []R) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(cells(r, len(heads)), "\t"))
	}
	t.Flush()
	printRemarks(w, rows, "  ")
}

// PrintMarkdown prints them for the documentation. The first two columns and the last
// are text, the others numbers.
func PrintMarkdown[R Row](w io.Writer, heads []string, rows []R) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(heads)
	rules := make([]string, len(heads))
	for i := range rules {
		rules[i] = "---"
		if i >= 2 && i < len(rules)-1 {
			rules[i] = "--:"
		}
	}
	line(rules)
	for _, r := range rows {
		cells := cells(r, len(heads))
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		line(cells)
	}
	printRemarks(w, rows, "- ")
}

// cells are a row of so many columns as it is printed.
func cells(r Row, columns int) []string {
	cells := r.Names()
	if r.outcome().Absent == "" {
		cells = append(cells, r.Figures()...)
	}
	for len(cells) < columns-1 {
		cells = append(cells, "")
	}
	return append(cells, Verdict(r))
}

// remarks are a row's lines below the table: why it failed, and what else it showed.
func remarks(r Row) (lines []string) {
	if r.outcome().Absent != "" {
		return nil
	}
	for _, why := range Faulty(r) {
		lines = append(lines, "FAIL: "+why)
	}
	return append(lines, r.outcome().Notes...)
}

func printRemarks[R Row](w io.Writer, rows []R, bullet string) {
	first := true
	for _, r := range rows {
		for _, remark := range remarks(r) {
			if first {
				fmt.Fprintln(w)
				first = false
			}
			fmt.Fprintf(w, "%s%s: %s\n", bullet, r.Title(), remark)
		}
	}
}
