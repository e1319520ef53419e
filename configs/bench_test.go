package configs

import (
	"fmt"
	"strings"
	"testing"
)

// rulesOf writes a configuration with n rules in the format of the extension.
func rulesOf(n int, ext string) []byte {
	var b strings.Builder
	before, rule, between, after := "send:\n", "  - name: rule-%[1]d\n    filter: site/%[1]d/lamp/{id}/set\n    group: 239.10.%[2]d.{id}:30000\n    source: 172.17.0.1\n    interface: iso0\n", "", ""
	switch ext {
	case ".json":
		before, between, after = "{\"send\": [\n", ",\n", "\n]}\n"
		rule = "\t{\"name\": \"rule-%[1]d\", \"filter\": \"site/%[1]d/lamp/{id}/set\", \"group\": \"239.10.%[2]d.{id}:30000\", \"source\": \"172.17.0.1\", \"interface\": \"iso0\"}"
	case ".toml":
		before = ""
		rule = "[[send]]\nname = \"rule-%[1]d\"\nfilter = \"site/%[1]d/lamp/{id}/set\"\ngroup = \"239.10.%[2]d.{id}:30000\"\nsource = \"172.17.0.1\"\ninterface = \"iso0\"\n"
	}
	b.WriteString(before)
	for i := range n {
		if i > 0 {
			b.WriteString(between)
		}
		fmt.Fprintf(&b, rule, i, i%256)
	}
	b.WriteString(after)
	return []byte(b.String())
}

func BenchmarkLoad(b *testing.B) {
	for _, ext := range []string{".yaml", ".json", ".toml"} {
		for _, n := range []int{1, 10_000, 30_000} {
			b.Run(fmt.Sprintf("%s/rules=%d", ext[1:], n), func(b *testing.B) {
				data := rulesOf(n, ext)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					c, err := load("x"+ext, data, nil)
					if err != nil {
						b.Fatal(err)
					}
					if len(c.Table.Send()) != n {
						b.Fatal("rules are missing")
					}
				}
			})
		}
	}
}
