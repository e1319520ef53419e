package syntax

import (
	"fmt"
	"regexp"
	"strings"
)

// This is the part of yamlSlip for values: quotes, brackets, and what must be in them.

var (
	yamlValue     = regexp.MustCompile(`^[\w"'-]+:\s+`)
	yamlIndicator = regexp.MustCompile("^(?:[*@%`&!|>\\]},]|[-?:](?:[ \t]|$))")
	yamlFlowPlus  = regexp.MustCompile(`^([\[{])[^\]}]*[\]}][^\s,\]}]`) // {a}:5000
	// The value of a key within brackets that has a bracket itself: { topic: a/{id}/b }. Before it are
	// others, in quotes or without a bracket.
	yamlFlowNested = regexp.MustCompile(`^\{(?:\s*[\w-]+:\s+(?:"[^"]*"|'[^']*'|[^"'\s{}\[\],][^{}\[\],]*),)*\s*[\w-]+:\s+([^"'\s{}\[\],$][^{}\[\],$]*[{\[])[^{]`)
	yamlTwoColons  = regexp.MustCompile(`^[^"'\[{#][^#]*?(:)(?: |$)`)
)

// valueSlip finds what a value cannot be without quotes, and quotes and brackets
// that do not end.
func (r yamlRow) valueSlip(message string) *Error {
	begin := len(yamlValue.FindString(r.inner))
	value := r.inner[begin:]
	if value == "" {
		return nil
	}
	item := begin == 0 && len(r.indent)+len(r.inner) < len(r.text)
	switch {
	case (begin > 0 || item) && yamlIndicator.MatchString(value):
		return r.indicator(begin, message)
	case begin > 0 && yamlFlowNested.MatchString(value):
		at := yamlFlowNested.FindStringSubmatchIndex(value)[2]
		return r.slip(begin+at, "put this value in quotes, as it has a bracket in it and stands within brackets", "the value goes on after its bracket")
	case begin > 0 && yamlFlowPlus.MatchString(value):
		return r.slip(begin, quotes(value[0]), "the value goes on after its bracket")
	case value[0] == '"' || value[0] == '\'':
		return r.quoteSlip(begin, message)
	case value[0] == '{' || value[0] == '[':
		return r.bracketSlip(begin, message)
	}
	if m := yamlTwoColons.FindStringSubmatchIndex(value); begin > 0 && m != nil {
		return r.slip(begin+m[2], "put the value in quotes", "a second colon, as if another key began")
	}
	return nil
}

func quotes(c byte) string { return fmt.Sprintf("put a value that begins with %c in quotes", c) }

// indicator is the slip of a value that begins with a character that has a meaning there. What
// the library says of it may quote it, and it may be a password.
func (r yamlRow) indicator(at int, message string) *Error {
	c := r.inner[at]
	if strings.Contains(message, "unknown anchor") {
		return r.slip(at, quotes(c), "%c begins an alias, and there is no anchor (&) of that name", c)
	}
	return r.slip(at, quotes(c), "%c has another meaning at the beginning of a value", c)
}

// quoteSlip looks at a value that begins with a quote.
func (r yamlRow) quoteSlip(begin int, message string) *Error {
	quote := r.inner[begin]
	for i := begin + 1; i < len(r.inner); i++ {
		switch {
		case quote == '"' && r.inner[i] == '\\':
			if strings.Contains(message, "escape") && (i+1 == len(r.inner) || !strings.ContainsRune(`0abtnvfre "/\N_LPxuU`, rune(r.inner[i+1]))) {
				return r.slip(i, `in "…" a \ must be \\, or write '…', where it needs nothing`, "%s", message)
			}
			i++
		case r.inner[i] == quote && quote == '\'' && i+1 < len(r.inner) && r.inner[i+1] == quote:
			i++
		case r.inner[i] == quote:
			if rest := strings.TrimLeft(r.inner[i+1:], " \t"); rest != "" && rest[0] != '#' {
				return r.slip(len(r.inner)-len(rest), "put the quotes around the whole value", "the value goes on after its quote")
			}
			return nil
		}
	}
	return r.slip(begin, "end the value with the same quote", "the quote is not closed")
}

// bracketSlip looks at a value that begins with a bracket, and finds one that is not
// closed, or a value in it that cannot begin so.
func (r yamlRow) bracketSlip(begin int, message string) *Error {
	var open []int
	inner := -1 // where a value in it cannot begin so
	var quote byte
	for i := begin; i < len(r.inner); i++ {
		switch c := r.inner[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case inner < 0 && r.cannotBegin(i, message):
			inner = i
		case c == '#' && i > 0 && r.inner[i-1] == ' ':
			i = len(r.inner)
		case c == '[' || c == '{':
			open = append(open, i)
		case (c == ']' || c == '}') && len(open) > 0:
			if last := r.inner[open[len(open)-1]]; c != last+2 { // ASCII has them two apart
				return r.slip(i, fmt.Sprintf("write %c", last+2), "%c closes a %c", c, last)
			}
			open = open[:len(open)-1]
		case c == ']' || c == '}':
			return r.slip(i, "take it out, or put the value in quotes", "%c closes nothing", c)
		}
	}
	if len(open) > 0 {
		at := open[len(open)-1]
		return r.slip(at, fmt.Sprintf("end it with %c, or put the value in quotes", r.inner[at]+2), "the %c is not closed", r.inner[at])
	}
	if inner >= 0 {
		return r.indicator(inner, message)
	}
	return nil
}

// cannotBegin reports whether a value in brackets begins at a place, with a character that it
// cannot begin with: if it can, in other places, then by what the library says.
func (r yamlRow) cannotBegin(at int, message string) bool {
	c := r.inner[at]
	before := strings.TrimRight(r.inner[:at], " ")
	if before == "" || strings.IndexByte("[{,:", before[len(before)-1]) < 0 || before[len(before)-1] == ':' && len(before) == at {
		return false
	}
	switch c {
	case '@', '`', '%', '|', '>':
		return true
	case '*':
		return strings.Contains(message, "unknown anchor") || strings.Contains(message, "alphabetic or numeric")
	case '&':
		return strings.Contains(message, "alphabetic or numeric")
	}
	return false
}
