package syntax_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"topicast/configs/syntax"
)

// rulesOf writes a list of n tables.
func rulesOf(n int) []byte {
	var b strings.Builder
	b.WriteString("send:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: rule-%[1]d\n    filter: site/%[1]d/lamp/{id}/set\n    group: 239.10.%[2]d.{id}:30000\n    source: 172.17.0.1\n    interface: iso0\n", i, i%256)
	}
	return []byte(b.String())
}

// The library names the wrong line for most of these, or none.
func TestYAMLSyntaxErrorNamesTheLine(t *testing.T) {
	for _, test := range []struct{ name, line, hint string }{
		{"key too deep", "      group: x", "indent it by 4, as line "},
		{"key too shallow", "   group: x", "indent it by 4, as line "},
		{"key at the dash", "  group: x", "indent it by 4, as line "},
		{"tab", "\tgroup: x", "indent with spaces"},
		{"no colon", "    group", "write group:"},
		{"no value behind two colons", "    group: x: y", "put the value in quotes"},
		{"brace", "    group: {address}:5000", "put a value that begins with { in quotes"},
		{"two braces", "    group: {address}:{port}", "put a value that begins with { in quotes"},
		{"bracket", "    group: [ff15::1]:5000", "put a value that begins with [ in quotes"},
		{"star", "    group: *", "put a value that begins with * in quotes"},
		{"anchor that is none", "    group: *address", "put a value that begins with * in quotes"},
		{"at", "    group: @address", "put a value that begins with @ in quotes"},
		{"percent", "    group: %1", "put a value that begins with % in quotes"},
		{"text behind a quoted one", `    group: "239.1.2.3":5000`, "put the quotes around the whole value"},
		{"bracket that closes nothing", "    group: [a]]", "take it out, or put the value in quotes"},
		{"unknown escape", `    group: "\d"`, `in "…" a \ must be `},
		{"not UTF-8", "    group: \xe9", "save the file as UTF-8"},
		{"control character", "    group: \x01", "take it out"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := strings.Split(strings.TrimSpace(string(rulesOf(40))), "\n")
			const line = 104 // the group of some rule in the middle
			if !strings.Contains(rows[line-1], "group:") {
				t.Fatalf("line %d is %q", line, rows[line-1])
			}
			rows[line-1] = test.line
			for _, end := range []string{"\n", "\r\n", "\n" + strings.Repeat("# and so on\n", 12)} {
				_, err := syntax.Parse("x.yaml", []byte(strings.Join(rows, end)), words)
				if err == nil {
					t.Fatal("no error")
				}
				want := line
				want += (strings.Count(end, "\n") - 1) * (line - 1)
				if int(err.At.Line) != want || !strings.HasPrefix(err.Hint, test.hint) || test.hint == "" && err.Hint != "" {
					t.Errorf("with %q: line %d, want %d: %v; hint %q", end, err.At.Line, want, err, err.Hint)
				}
			}
		})
	}
}

// A rule a line is how most long lists are written.
func TestPlainYAMLKnowsRulesInBraces(t *testing.T) {
	const rules = `receive:
- {name: my meters, group: ["239.1.2.3:5000", 239.1.2.4:5000], topic: 'in/{source}', qos: 1, on_change: true } # one
`
	root, ok := syntax.PlainYAML([]byte(rules))
	if !ok {
		t.Fatal("not read")
	}
	var got []string
	for _, e := range root.Entry("receive").Value.Entries[0].Value.Entries {
		for _, item := range append(e.Value.Entries, e) {
			v := item.Value
			got = append(got, fmt.Sprint(item.Key, " ", v.At.Line, ":", v.At.Column, " ", v.Kind, " ", v.Text))
		}
	}
	want := []string{
		"name 2:10 a text my meters", " 2:29 a text 239.1.2.3:5000", " 2:47 a text 239.1.2.4:5000", "group 2:28 a list ",
		"topic 2:71 a text in/{source}", "qos 2:91 a number 1", "on_change 2:105 a boolean true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The reader for plain YAML reads what receive rules are mostly written in.
func TestPlainYAMLKnowsReceiveRules(t *testing.T) {
	const block = `loops:
  guard: false
receive:
  - name: meters
    group:
      - 239.1.2.3:5000
      - 239.1.2.8-239.1.2.9:5001
      - "[ff15::1]:5000"
    source:
    - 192.0.2.7
    - 198.51.100.0/24
    - fd00::/64
    interface: eth0
    topic: in/{source}/{group&255}
    every: 1s
    on_change: true
`
	root, ok := syntax.PlainYAML([]byte(block))
	if !ok {
		t.Fatal("not read")
	}
	rule := &root.Entry("receive").Value.Entries[0].Value
	var got []string
	for _, key := range []string{"group", "source"} {
		for _, e := range rule.Entry(key).Value.Entries {
			got = append(got, fmt.Sprint(e.Value.Text, " ", e.Value.At.Line, ":", e.Value.At.Column))
		}
	}
	want := []string{"239.1.2.3:5000 6:9", "239.1.2.8-239.1.2.9:5001 7:9", "[ff15::1]:5000 8:9", "192.0.2.7 10:7", "198.51.100.0/24 11:7", "fd00::/64 12:7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A list of 10,000 rules is read at every start.
func TestPlainYAMLAllocatesOnceByTheRule(t *testing.T) {
	const rules = 2000
	data := rulesOf(rules)
	perRule := testing.AllocsPerRun(5, func() {
		if _, ok := syntax.PlainYAML(data); !ok {
			t.Fatal("not read")
		}
	}) / rules
	if perRule > 1.1 { // the rule's entries; keys and values are parts of the file
		t.Errorf("%.2f allocations by the rule", perRule)
	}
}

// FuzzPlainYAML holds the reader for plain YAML to the library: what it reads,
// it reads alike, to the last column.
func FuzzPlainYAML(f *testing.F) {
	for _, data := range everyConfiguration(f) {
		f.Add(data)
	}
	for _, seed := range plainSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := syntax.PlainYAML(data)
		if !ok {
			return
		}
		want, err := syntax.AnyYAML(data)
		if err != nil {
			t.Fatalf("the library refuses it: line %d: %v", err.At.Line, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(syntax.Node{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-library +plain)\n%s", diff)
		}
	})
}

var plainSeeds = []string{
	"a: {b: c, d: \"e\", f: 'g'} # h\n", "a:\n- {b: c/#, d: [e, 'f'], g: {h: 1}}\n-   [ ]\n- { }\n", "a: {b: c,}\n", "a: [b: c]\n", "a: {b: c #}\n",
	"a: {b: c # d}\n", "a: {b: c:}\n", "a: {b:c}\n", "a: {b: }\n", "a: {b}\n", "a: {b: c\n  d: e}\n", "a: {b: c{d}}\n", "a: {b: c}d\n", "a: {b: c}#d\n",
	"a: {\"b\": c}\n", "a: [\"b\": c]\n", "a: [b c, d  ]\n", "a: [b?, c]\n", "a: {b: 'c'd}\n", "a: ['b''c']\n", "a: [b]: c\n", "a: {b: c}: d\n",
	"a: 1\n", "a: b\nc:\n  d: e # f\n  g: 'h'\n", "a:\n- b\n- c: d\n  e: f\n", "a:\n    - b: \"c\"   # d\n    -   e: f\n        g: h\n",
	"a: b\n  c\n", "a: b\n c: d\n", "a:\n  b: c\n d: e\n", "a:\n", "- a\n- b: c\n", "a: b: c\n", "a: b:\n", "a: b #c\n", "a: b# c\n", "a: 'b'# c\n",
	"a: 'b' c\n", "a: ''''\n", "a: 010\nb: 0x1f\nc: 1e3\nd: 1_0\ne: true\nf: null\ng: 2026-01-31\nh: 12:30:45\ni: +1\nj: yes\n",
	"---\na: b\n", "a: b\n---\n", "a: b\n...\n", "a:\n  - b\n  c: d\n", "a:\n  - b\n - c\n", "a:\n-\n", "a:\n  - - b\n", "a: b\n- c\n", "# x\n\n  # y\na: b",
	"a: $SYS/#\nb: +/c\nd: site/{e}/f\n", "a : b\n", "a:b\n", "a:  \n  b:  c  \n", "  a: b\n  c: d\n", "  a: b\nc: d\n", "a: \"b\\n\"\n", "<<: a\n", "a: <<\n", ": a\n", "a:\n  : b\n", "ab:\n- b\ncd: e\n",
}
