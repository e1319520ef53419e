package syntax_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"topicast/configs/syntax"
)

// words are the keys of the texts here.
var words = syntax.Keys{
	Known: func(word string) bool {
		return slices.Contains(strings.Fields("broker url client_id password tls ca_file log level format send name filter group source interface ttl qos"), word)
	},
	Secret: func(key string) bool { return key == "password" },
}

func TestTheUsualSlipsInYAMLAreToldByTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"tab at the beginning", "send:\n\t- filter: a\n", "2:1: a tab in the indentation (indent with spaces)"},
		{"tab after spaces", "send:\n  - filter: a\n  \tgroup: b\n", "3:3: a tab in the indentation (indent with spaces)"},
		{"tab behind the dash", "send:\n  -\tfilter: a\n", "2:4: a tab after the dash (put a space in its place)"},
		{"other spaces", "send:\n  - filter: a\n\u00a0\u00a0\u00a0\u00a0group: b\n    ttl: 1\n", "3:1: the character U+00A0 in the indentation looks like a space, and is none (indent with spaces)"},
		{"other space after the colon", "log:\n  level:\u00a0info\n  format: text\n", "2:9: the character U+00A0 after the colon looks like a space, and is none (put a space in its place)"},
		{"too deep", "log:\n  level: info\n    format: text\n", "3:5: indented by 4, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"too deep after quotes", "log:\n  level: \"info\"\n   format: text\n", "3:4: indented by 3, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"not deep enough", "log:\n  level: info\n format: text\n", "3:2: indented by 1, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"key of a rule not deep enough", "send:\n  - filter: a\n    ttl: 1\n   qos: 1\n", "4:4: indented by 3, which fits nothing above it (indent it by 4, as line 3 is)"},
		{"key of a rule at the dashes", "send:\n  - filter: a\n  ttl: 1\n", "3:3: a key where the dashes of a list stand (indent it by 4, as line 2 is)"},
		{"dash among keys", "send:\n  - filter: a\n    ttl: 1\n    - filter: b\n", "4:5: a dash where keys stand (indent it by 2, as line 2 is)"},
		{"dash between", "send:\n  - filter: a\n    ttl: 1\n   - filter: b\n", "4:4: indented by 3, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"dash too far out", "send:\n  - filter: a\n - filter: b\n", "3:2: indented by 1, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"the first line indented", " log:\n  level: info\nsend:\n  - filter: a\n", "3:1: indented by 0, which fits nothing above it (indent it by 1, as line 1 is)"},
		{"after a comment, with CRLF", "log:\r\n  level: info\r\n\r\n# and\r\n   format: text\r\n", "5:4: indented by 3, which fits nothing above it (indent it by 2, as line 2 is)"},
		{"no space after the colon", "broker:\n  url: mqtt://b\n  client_id:x\nsend: []\n", "3:13: no space after the colon (write client_id: x)"},
		{"no space after the first colon", "broker:\n  client_id:x\n  url: mqtt://b\n", "2:13: no space after the colon (write client_id: x)"},
		{"no space after the colon of a rule", "send:\n  - filter:a # all\n    ttl: 1\n", "2:12: no space after the colon (write filter: a)"},
		{"a password without a space", "broker:\n  password:geheim\n  url: mqtt://b\n", "2:12: no space after the colon (write password: …)"},
		{"no space after the dash", "send:\n  -filter: a\n   ttl: 1\n", "2:4: no space after the dash (write - filter:)"},
		{"no colon after a section", "log\n  level: info\n", "1:4: no colon after the key (write log:)"},
		{"no colon after a key", "log:\n  level info\n  format: text\n", "2:8: no colon after the key (write level: info)"},
		{"equals", "log:\n  level = info\n  format: text\n", "2:9: = in the place of a colon (write level: info)"},
		{"two colons", "send:\n  - name: lamps: above\n", "2:16: a second colon, as if another key began (put the value in quotes)"},
		{"quote that does not end", "send:\n  - filter: \"a\n    group: \"b\"\n", "2:13: the quote is not closed (end the value with the same quote)"},
		{"quote that does not end at the end", "send:\n  - filter: 'a\n", "2:13: the quote is not closed (end the value with the same quote)"},
		{"text after a quote", "send:\n  - filter: \"a\" b\n", "2:17: the value goes on after its quote (put the quotes around the whole value)"},
		{"escape", `log:` + "\n" + `  level: "a\d"` + "\n", `2:12: found unknown escape character (in "…" a \ must be \\, or write '…', where it needs nothing)`},
		{"bracket that does not end", "broker:\n  url: [mqtt://a, mqtt://b\nlog: {}\n", "2:8: the [ is not closed (end it with ], or put the value in quotes)"},
		{"brace that does not end", "send:\n  - {filter: a, ttl: 1\n  - {filter: b}\n", "2:5: the { is not closed (end it with }, or put the value in quotes)"},
		{"brace closed by a bracket", "send:\n  - {filter: a, ttl: 1]\n", "2:23: ] closes a { (write })"},
		{"bracket that closes nothing", "broker:\n  url: [a]]\n", "2:11: ] closes nothing (take it out, or put the value in quotes)"},
		{"value with a bracket within brackets", "send:\n  - answer: { topic: a/{id}/b, within: 1s }\n", "2:22: the value goes on after its bracket (put this value in quotes, as it has a bracket in it and stands within brackets)"},
		{"second value with a bracket within brackets", "send:\n  - answer: { within: 1s, topic: \"x/{id}\", none: a/{id} }\n", "2:50: the value goes on after its bracket (put this value in quotes, as it has a bracket in it and stands within brackets)"},
		{"value with a bracket", "send:\n  - group: [ff15::1]:5000\n", "2:12: the value goes on after its bracket (put a value that begins with [ in quotes)"},
		{"indicator", "broker:\n  client_id: @home\n", "2:14: @ has another meaning at the beginning of a value (put a value that begins with @ in quotes)"},
		{"an alias", "broker:\n  client_id: *home x\n", "2:14: * begins an alias, and there is no anchor (&) of that name (put a value that begins with * in quotes)"},
		{"a star alone", "broker:\n  client_id: *\n", "2:14: * has another meaning at the beginning of a value (put a value that begins with * in quotes)"},
		{"a tag", "broker:\n  client_id: !home\n", "2:14: !home is a tag that means nothing here (write the value itself, in quotes if it begins with !)"},
		{"a dash", "broker:\n  client_id: - home\n", "2:14: - has another meaning at the beginning of a value (put a value that begins with - in quotes)"},
		{"a question mark", "broker:\n  client_id: ? home\n", "2:14: ? has another meaning at the beginning of a value (put a value that begins with ? in quotes)"},
		{"a colon", "broker:\n  client_id: : home\n", "2:14: : has another meaning at the beginning of a value (put a value that begins with : in quotes)"},
		{"a bracket that closes", "broker:\n  client_id: ]home\n", "2:14: ] has another meaning at the beginning of a value (put a value that begins with ] in quotes)"},
		{"a comma", "broker:\n  client_id: ,home\n", "2:14: , has another meaning at the beginning of a value (put a value that begins with , in quotes)"},
		{"in a list", "broker:\n  url:\n    - @home\n", "3:7: @ has another meaning at the beginning of a value (put a value that begins with @ in quotes)"},
		{"in brackets", "broker:\n  url: [mqtt://a, *b]\n", "2:19: * begins an alias, and there is no anchor (&) of that name (put a value that begins with * in quotes)"},
		{"in braces", "send:\n  - {name: \"@\", filter: `a, ttl: 1}\n", "2:25: ` has another meaning at the beginning of a value (put a value that begins with ` in quotes)"},
		{"behind an alias that is there", "send:\n  - {name: &n a, filter: b}\n  - {name: *n, filter: %c}\n", "3:24: % has another meaning at the beginning of a value (put a value that begins with % in quotes)"},
		{"a password like an alias", "broker:\n  password: *geheim\n", "2:13: * begins an alias, and there is no anchor (&) of that name (put a value that begins with * in quotes)"},
		{"a password like an anchor", "broker:\n  password: &geheim sehr\n", "2:13: & begins an anchor, which is no part of the value (put a value that begins with & in quotes)"},
		{"a password like a tag", "broker:\n  password: !geheim\n", "2:13: !… is a tag that means nothing here (write the value itself, in quotes if it begins with !)"},
		{"a password with a colon", "broker:\n  password: geheim: sehr\n", "2:19: a second colon, as if another key began (put the value in quotes)"},
		{"a password after other blanks", "broker:\n  password:\u00a0geheim\n  url: mqtt://b\n", "2:12: the character U+00A0 after the colon looks like a space, and is none (put a space in its place)"},
		{"not UTF-8", "log:\n  level: \xe9\n", "2:10: the byte 0xe9 is not UTF-8 (save the file as UTF-8)"},
		{"a control character", "log:\n  level: é\x01\n", "2:11: the control character U+0001 (take it out)"},
		{"umlauts count as one", "send:\n  - name: Größe: klein\n", "2:16: a second colon, as if another key began (put the value in quotes)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := syntax.Parse("x.yaml", []byte(c.text), words)
			if err == nil {
				t.Fatal("no error")
			}
			if got := fmt.Sprintf("%d:%d: %v (%s)", err.At.Line, err.At.Column, err, err.Hint); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Each row of a file is given an indentation that is wrong by one or two, or a tab,
// and each first colon loses its blank. What is then no YAML any more is to be
// told at that row, and never beside the text.
func TestASlipInAnyRowIsToldAtThatRow(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(string(rulesOf(4))), "\n")
	rows = append([]string{"broker:", "  url: [mqtt://a, mqtt://b]", "  tls:", "    ca_file: ca.pem", "log:", "  level: info"}, rows...)
	refused := 0
	for i, row := range rows {
		for _, c := range []struct{ name, slip string }{
			{"one more", " " + row}, {"two more", "  " + row}, {"one less", strings.TrimPrefix(row, " ")},
			{"two less", strings.TrimPrefix(row, "  ")}, {"a tab", "\t" + strings.TrimLeft(row, " ")},
			{"no space", strings.Replace(row, ": ", ":", 1)},
		} {
			if c.slip == row {
				continue
			}
			changed := append(append(append([]string{}, rows[:i]...), c.slip), rows[i+1:]...)
			_, err := syntax.Parse("x.yaml", []byte(strings.Join(changed, "\n")), words)
			if err == nil {
				continue // another meaning
			}
			refused++
			line, column := int(err.At.Line), int(err.At.Column)
			// A first key that is too far in shows at the second.
			first := strings.HasSuffix(strings.TrimSpace(append([]string{""}, rows...)[i]), ":") || strings.Contains(row, "- ")
			if i > 0 && line != i+1 && !(first && line <= i+3 && line > i) {
				t.Errorf("%s in line %d, %q: told in line %d: %v", c.name, i+1, c.slip, line, err)
			}
			if column < 1 || line > len(changed) || column > len(changed[line-1])+1 {
				t.Errorf("%s in line %d, %q: column %d: %v", c.name, i+1, c.slip, column, err)
			}
		}
	}
	if refused < 50 {
		t.Errorf("only %d slips were refused", refused)
	}
}
