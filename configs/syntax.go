package configs

import (
	"bytes"
	"errors"
	"strings"

	"topicast/configs/syntax"
)

// parse reads a file of any of the formats, and knows the keys there are.
func parse(file string, data []byte) (syntax.Node, *syntax.Error) {
	return syntax.Parse(file, data, syntax.Keys{Known: isKey, Secret: isSecret})
}

// isKey reports whether any section or rule has a key of that name.
func isKey(word string) bool {
	return hasField(schema(), func(f *field) bool { return f.key == word })
}

// isSecret reports whether the value of a key of that name is a password.
func isSecret(word string) bool {
	return hasField(schema(), func(f *field) bool { return f.key == word && f.secret })
}

func hasField(s *section, is func(f *field) bool) bool {
	for i := range s.fields {
		f := &s.fields[i]
		if is(f) || f.section != nil && hasField(f.section, is) {
			return true
		}
	}
	return false
}

// syntaxHint returns what to do about a syntax error, as far as package syntax or the row
// of the error tells.
func syntaxHint(e *syntax.Error, data []byte) string {
	if errors.Is(e, syntax.ErrTag) {
		return e.Hint + "; " + byVariable
	}
	line := int32(0)
	for row := range bytes.Lines(data) {
		if line++; e.Hint == "" && line == e.At.Line {
			return replaced(strings.TrimSuffix(string(row), "\n"))
		}
	}
	return e.Hint
}

const byVariable = "what is not in a list can be given by a variable instead (topicast config --env lists them)"
