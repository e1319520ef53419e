package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is rows of cells under a header, to be printed in columns.
type table [][]string

func newTable(header ...any) *table {
	t := &table{}
	t.row(header...)
	return t
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = printable(fmt.Sprint(cell))
	}
	*t = append(*t, row)
}

// print pads the cells, but not the last of a row: no line ends in blanks.
func (t *table) print(w io.Writer) error {
	var widths []int
	for _, row := range *t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var line strings.Builder
	for _, row := range *t {
		line.Reset()
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// printable makes text safe for a terminal: what is not printable (escape
// sequences, line ends, marks that reverse the direction of writing, bytes that
// are not UTF-8) becomes what Go writes for it in a string, as \x1b or \n, and
// so a backslash becomes two.
func printable(text string) string {
	safe := true
	for _, r := range text {
		if safe = strconv.IsPrint(r) && r != '\\' && r != utf8.RuneError; !safe {
			break
		}
	}
	if safe {
		return text
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		if strconv.IsPrint(r) && r != '\\' && (r != utf8.RuneError || size > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(rest[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		rest = rest[size:]
	}
	return b.String()
}

// count is "1 rule" or "3 rules".
func count[N int | uint64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// shortened is a text of at most n characters.
func shortened(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-3]) + "..."
}
