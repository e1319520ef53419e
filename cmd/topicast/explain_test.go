package main

import (
	"slices"
	"strings"
	"testing"

	"topicast/mapping"
)

func TestNearestFiltersAreThoseThatMatchTheLongestPart(t *testing.T) {
	for _, c := range []struct {
		topic   string
		filters string
		want    []string // filter: why
	}{
		{"a/b/c", "x/b/c a/x/c a/b/x", []string{"a/b/x: level 3 is x, not c", "a/x/c: level 2 is x, not b"}},
		{"a/b", "a a/b/c A/b", []string{
			"a/b/c: the topic ends after level 2 of 3", "a: the topic goes on after level 1",
			"A/b: upper and lower case differ at level 1: A, not a",
		}},
		{"a/b/c", "a/{x}/d", []string{"a/{x}/d: level 3 is d, not c"}},
		{"a//c", "a/b/c", []string{`a/b/c: level 2 is b, not empty ("")`}},
		{"$SYS/load", "# +/load $SYS/{x}/load", []string{"$SYS/{x}/load: the topic ends after level 2 of 3"}},
		{"a/0", "a/1 a/2 a/3 a/4 a/5 a/6 a/7", []string{
			"a/1: level 2 is 1, not 0", "a/2: level 2 is 2, not 0", "a/3: level 2 is 3, not 0",
			"a/4: level 2 is 4, not 0", "a/5: level 2 is 5, not 0",
		}},
		{"x", "a/b c", nil},
	} {
		t.Run(c.topic, func(t *testing.T) {
			var rules []mapping.SendRule
			for text := range strings.FieldsSeq(c.filters) {
				f, err := mapping.ParseFilter(text)
				if err != nil {
					t.Fatal(err)
				}
				if f.Match(c.topic) {
					t.Fatalf("%s matches %s", f, c.topic)
				}
				rules = append(rules, mapping.SendRule{Filter: f})
			}
			var got []string
			for _, n := range nearest(c.topic, rules) {
				got = append(got, n.filter+": "+n.why)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
