package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// wordList are the words that a key takes, in the order of the constants that stand for
// them.
type wordList []string

// String is "once, always or never".
func (l wordList) String() string {
	last := len(l) - 1
	return strings.Join(l[:last], ", ") + " or " + l[last]
}

// word is that of the i-th constant of the type, or what Go's tools call one that there is
// not.
func (l wordList) word(i int, constant int, name string) string {
	if i < 0 || i >= len(l) {
		return name + "(" + strconv.Itoa(constant) + ")"
	}
	return l[i]
}

// parseName finds the place of s among the words of a key.
func parseName(key, s string, words wordList) (int, error) {
	if i := slices.Index(words, s); i >= 0 {
		return i, nil
	}
	return 0, notOneOf(key, s, words)
}

// notOneOf is the error of a text that is none of the words of a key, with the one that
// was probably meant.
func notOneOf(key, s string, words wordList) error {
	var known []string
	for _, w := range words {
		known = append(known, strings.TrimSuffix(w, "pointer")) // of json:/pointer, which names one
	}
	hint := ""
	if meant := nearWord(s, known); meant != "" {
		hint = "; did you mean " + meant
	}
	return fmt.Errorf("%s %s: is not %s%s", key, quote(s), words, hint)
}
