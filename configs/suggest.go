package configs

import (
	"fmt"
	"strings"
)

// suggestKey finds the key that one that is not known was meant to be, "" if
// none is near, and says so.
func suggestKey(key string, s *section) (meant, hint string) {
	names := make([]string, len(s.fields))
	for i := range s.fields {
		names[i] = s.fields[i].key
	}
	if meant = nearest(key, names); meant != "" {
		return meant, fmt.Sprintf("did you mean %s?", meant)
	}
	if path := elsewhere(key, schema()); path != "" {
		return "", "did you mean " + path + "?"
	}
	return "", "the keys here are " + strings.Join(names, ", ")
}

// elsewhere is the path of a key of that name in any section.
func elsewhere(key string, s *section) string {
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.section == nil && f.key == key:
			return f.path
		case f.list:
			if f.section.field(key) != nil {
				return f.path + "[]." + key
			}
		case f.section != nil:
			if path := elsewhere(key, f.section); path != "" {
				return path
			}
		}
	}
	return ""
}

// nearest is the name that differs least from what was written, if one is near
// enough to have been meant.
func nearest(written string, names []string) string {
	plain := strings.ToLower(written)
	best, meant := len(plain)/3+1, ""
	for _, name := range names {
		if d := distance(plain, name); d <= best && (meant == "" || d < best) {
			best, meant = d, name
		}
	}
	return meant
}

// distance is the number of letters to insert, remove or replace that makes b
// of a (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 { // no key is that long
		return len(a)
	}
	var last, row [65]int // over a
	for i := range len(a) + 1 {
		last[i] = i
	}
	for j := range len(b) {
		row[0] = j + 1
		for i := range len(a) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[i+1] = min(last[i+1]+1, row[i]+1, last[i]+cost)
		}
		last = row
	}
	return last[len(a)]
}
