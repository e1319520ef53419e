package mapping

import "strings"

// Near returns the one of known that word was probably meant to be, or "". It is for
// names that anybody may choose, of interfaces, files and captures: one letter may be
// off, of eight or more two.
func Near(word string, known []string) string {
	return Nearest(word, known, min(max(len(word)/4, 1), 2))
}

// nearWord is Near for the few words that a key has, of which none is like another.
func nearWord(word string, known []string) string { return Nearest(word, known, 2) }

// Nearest returns the one of known that differs least from word, upper and lower case
// aside, or "" if all differ by more than most letters.
func Nearest(word string, known []string, most int) string {
	word = strings.ToLower(word)
	nearest, limit := "", most
	for _, k := range known {
		if d := Distance(word, strings.ToLower(k), limit); d <= limit && d < len(k) {
			nearest, limit = k, d-1
		}
	}
	return nearest
}

// Distance returns how many letters (bytes) are to insert, remove, replace or swap
// with their neighbour to make b of a. Where these are more than most, it returns
// most+1, and does not count on: mostly that shows after a few letters.
func Distance(a, b string, most int) int {
	if most < 0 || len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	const usual = 64
	var onStack [3][usual + 1]int
	last, row, next := onStack[0][:], onStack[1][:], onStack[2][:]
	if len(b) > usual {
		last, row, next = make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	}
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		least := next[0]
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, last[j-1]+1)
			}
			next[j+1] = d
			least = min(least, d)
		}
		if least > most { // no later row has less
			return most + 1
		}
		last, row, next = row, next, last
	}
	return min(row[len(b)], most+1)
}
