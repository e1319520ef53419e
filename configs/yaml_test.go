package configs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The library names the wrong line for most of these, or none.
func TestYAMLSyntaxErrorNamesTheLine(t *testing.T) {
	for _, test := range []struct{ name, line, hint string }{
		{"key too deep", "      group: x", ""},
		{"key too shallow", "   group: x", ""},
		{"key at the dash", "  group: x", ""},
		{"tab", "\tgroup: x", "indent with blanks"},
		{"no colon", "    group", ""},
		{"no value behind two colons", "    group: x: y", ""},
		{"brace", "    group: {address}:5000", "put a value that begins with { in quotes"},
		{"two braces", "    group: {address}:{port}", "put a value that begins with { in quotes"},
		{"bracket", "    group: [ff15::1]:5000", "put a value that begins with [ in quotes"},
		{"star", "    group: *", "put a value that begins with * in quotes"},
		{"anchor that is none", "    group: *address", "put a value that begins with * in quotes"},
		{"at", "    group: @address", "put a value that begins with @ in quotes"},
		{"percent", "    group: %1", "put a value that begins with % in quotes"},
		{"text behind a quoted one", `    group: "239.1.2.3":5000`, ""},
		{"bracket that closes nothing", "    group: [a]]", ""},
		{"unknown escape", `    group: "\d"`, ""},
		{"not UTF-8", "    group: \xe9", ""},
		{"control character", "    group: \x01", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := strings.Split(strings.TrimSpace(string(rulesOf(40, ".yaml"))), "\n")
			const line = 104 // the group of some rule in the middle
			if !strings.Contains(rows[line-1], "group:") {
				t.Fatalf("line %d is %q", line, rows[line-1])
			}
			rows[line-1] = test.line
			for _, end := range []string{"\n", "\r\n", "\n" + strings.Repeat("# and so on\n", 12)} {
				_, err := parseYAML([]byte(strings.Join(rows, end)))
				if err == nil {
					t.Fatal("no error")
				}
				want := line
				want += (strings.Count(end, "\n") - 1) * (line - 1)
				if int(err.at.line) != want || err.hint != test.hint {
					t.Errorf("with %q: line %d, want %d: %v; hint %q", end, err.at.line, want, err, err.hint)
				}
			}
		})
	}
}

func TestYAMLAnchorsAndMergesAreFollowed(t *testing.T) {
	c, err := load("x.yaml", []byte(`
send:
  - &lamp
    filter: a
    group: 239.1.2.3:5000
    interface: eth0
    ttl: 4
  - <<: *lamp
    filter: b
    ttl: 5
  - <<: [{ttl: 6}, *lamp]
    filter: c
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Table.Send() {
		got = append(got, fmt.Sprint(r.Name, " ", r.Group, " ", r.Binding.Interface, " ", r.Binding.TTL))
	}
	want := []string{"a 239.1.2.3:5000 eth0 4", "b 239.1.2.3:5000 eth0 5", "c 239.1.2.3:5000 eth0 6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A fault in a merged key is told where it is written.
func TestYAMLMergedFaultIsAtItsAnchor(t *testing.T) {
	_, err := load("x.yaml", []byte(`send:
  - &lamp
    filter: a
    group: 10.1.2.3:5000
    interface: eth0
  - <<: *lamp
    filter: b
`), nil)
	want := `x.yaml:4:12: send[0].group: group "10.1.2.3:5000": 10.1.2.3 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255
x.yaml:4:12: send[1].group: group "10.1.2.3:5000": 10.1.2.3 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

// Ten levels of ten aliases each would be ten thousand million values.
func TestYAMLAliasesDoNotMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	b.WriteString("send: *a20\n")
	_, err := load("x.yaml", []byte(b.String()), nil)
	if err == nil || !strings.Contains(err.Error(), "send[9]: is a list; it must be a rule") {
		t.Error(err)
	}
}

// A rule a line is how most long lists are written.
func TestPlainYAMLKnowsRulesInBraces(t *testing.T) {
	const rules = `receive:
- {name: my meters, group: ["239.1.2.3:5000", 239.1.2.4:5000], topic: 'in/{source}', qos: 1, on_change: true } # one
`
	root, ok := parsePlainYAML([]byte(rules))
	if !ok {
		t.Fatal("not read")
	}
	var got []string
	for _, e := range root.entry("receive").value.entries[0].value.entries {
		for _, item := range append(e.value.entries, e) {
			v := item.value
			got = append(got, fmt.Sprint(item.key, " ", v.at.line, ":", v.at.column, " ", v.kind, " ", v.text))
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
		got, ok := parsePlainYAML(data)
		if !ok {
			return
		}
		want, err := parseAnyYAML(data)
		if err != nil {
			t.Fatalf("the library refuses it: line %d: %v", err.at.line, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(node{}, entry{}, place{}), cmpopts.EquateEmpty()); diff != "" {
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
