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
	plain := strings.ReplaceAll(strings.ToLower(written), "-", "_")
	best, meant := len(plain)/3+1, ""
	for _, name := range names {
		if d := distance(plain, name); d <= best && (meant == "" || d < best) {
			best, meant = d, name
		}
	}
	return meant
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour that makes b of a.
func distance(a, b string) int {
	if len(a) > 64 { // no key is that long
		return len(a)
	}
	var before, last, row [65]int // over a; two rows up, one row up, this one
	for i := range len(a) + 1 {
		last[i] = i
	}
	for j := 1; j <= len(b); j++ {
		row[0] = j
		for i := 1; i <= len(a); i++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[i] = min(last[i]+1, row[i-1]+1, last[i-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[i] = min(row[i], before[i-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(a)]
}
