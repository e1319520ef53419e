package harness

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type testRow struct {
	name string
	bad  []string
	Outcome
}

func (r testRow) Names() []string   { return []string{r.name, "send"} }
func (r testRow) Figures() []string { return []string{"2000", "1500"} }
func (r testRow) Title() string     { return r.name + " (send)" }
func (r testRow) Judge() []string   { return r.bad }

func TestTablesShowEveryRow(t *testing.T) {
	rows := []testRow{
		{name: "link down | up", bad: []string{"500 lost", "2 out of order"}, Outcome: Outcome{Failures: []string{"why"}, Notes: []string{"and more"}}},
		{name: "gone"},
		{name: "spool", bad: []string{"not to be shown"}, Outcome: Outcome{Absent: Interrupted, Notes: []string{"not to be shown"}}},
	}
	heads := []string{"fault", "way", "in", "out", ""}
	var text, markdown strings.Builder
	PrintTable(&text, heads, rows)
	PrintMarkdown(&markdown, heads, rows)
	wantMarkdown := `| fault | way | in | out |  |
| --- | --- | --: | --: | --- |
| link down \| up | send | 2000 | 1500 | FAIL |
| gone | send | 2000 | 1500 | ok |
| spool | send |  |  | interrupted |

- link down | up (send): FAIL: 500 lost
- link down | up (send): FAIL: 2 out of order
- link down | up (send): FAIL: why
- link down | up (send): and more
`
	if diff := cmp.Diff(wantMarkdown, markdown.String()); diff != "" {
		t.Errorf("Markdown (-want +got):\n%s", diff)
	}
	for _, want := range []string{"link down | up  send  2000  1500  FAIL\n", "\n  link down | up (send): FAIL: 500 lost\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
	if err := Failed(rows, "rows failed"); err == nil || err.Error() != "1 of 3 rows failed" {
		t.Errorf("%v", err)
	}
	if err := Failed(rows[1:], "rows failed"); err != nil {
		t.Errorf("%v", err)
	}
}
