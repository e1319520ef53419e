package harness

import (
	"cmp"
	"fmt"
	"path"
	"strings"
)

// Choose returns those items that one of the patterns names, as [path.Match] does, in
// their own order. The patterns are parted by commas; without any, it returns all.
func Choose[T any](patterns string, all []T, names func(T) []string) (chosen []T, err error) {
	if patterns == "" {
		return all, nil
	}
	list := strings.Split(patterns, ",")
	used := make([]bool, len(list))
	for _, item := range all {
		found := false
		for i, p := range list {
			for _, name := range names(item) {
				ok, err := path.Match(p, name)
				if err != nil {
					return nil, fmt.Errorf("--only %s: %w", p, err)
				}
				used[i], found = used[i] || ok, found || ok
			}
		}
		if found {
			chosen = append(chosen, item)
		}
	}
	for i, p := range list {
		if !used[i] {
			return nil, fmt.Errorf("--only %s: nothing has that name; --help lists them", p)
		}
	}
	return chosen, nil
}

// Range returns an error if the value of a flag is not in its range.
func Range[T cmp.Ordered](flag string, value, low, high T) error {
	if value >= low && value <= high { // NaN is neither
		return nil
	}
	return fmt.Errorf("--%s %v is not %v to %v", flag, value, low, high)
}
