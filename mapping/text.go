package mapping

import (
	"fmt"
	"strconv"
	"strings"
)

// quote quotes a text that somebody else wrote, and cuts it where it would
// flood a log.
func quote(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// ShellWord is a text as a shell takes it for one word.
func ShellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("@%+=:,./_-", r) && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Listed is the first of a list that may have thousands, and how many more there are.
func Listed[T any](list []T, text func(T) string) string {
	const most = 3
	var words []string
	for _, t := range list[:min(len(list), most)] {
		words = append(words, text(t))
	}
	if more := len(list) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}
