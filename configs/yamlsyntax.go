package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var yamlMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// yamlSyntaxError finds the line of a syntax error, and what was meant, if it
// is one of the usual slips.
func yamlSyntaxError(data []byte, err error) *syntaxError {
	match := yamlMessage.FindStringSubmatch(err.Error())
	if match == nil {
		return &syntaxError{err: err}
	}
	message := match[2]
	rows := bytes.SplitAfter(data, []byte("\n"))
	line := yamlStop(data, rows)
	if strings.HasPrefix(message, "found unexpected end of stream") { // a quote that is never closed
		if n, err := strconv.Atoi(match[1]); err == nil {
			line = min(line, n)
		}
	}
	line = yamlFault(rows, line)
	return &syntaxError{at: place{line: int32(line)}, err: errors.New(message), hint: yamlHint(rows[line-1])}
}

// yamlStop is a line in which the library has noticed the fault. It names none
// itself, or that where the enclosing block begins, which may be a thousand
// lines above. But fed byte by byte it reads little further than it must.
func yamlStop(data []byte, rows [][]byte) int {
	reader := &byteReader{data: data}
	for decoder := yaml.NewDecoder(reader); ; {
		var n yaml.Node
		if decoder.Decode(&n) != nil {
			break
		}
	}
	line := 1
	for at := 0; line < len(rows); line++ {
		if at += len(rows[line-1]); at >= reader.read {
			break
		}
	}
	return line
}

// yamlFault goes back from a line where the fault was noticed to the one where
// it is: the first that makes a good beginning a bad one. It goes no further
// than ten lines, as each step costs a parse.
func yamlFault(rows [][]byte, line int) int {
	for range 10 {
		previous := line - 1
		for previous > 0 && blankYAML(rows[previous-1]) {
			previous--
		}
		var n yaml.Node
		if previous == 0 || yaml.Unmarshal(bytes.Join(rows[:previous], nil), &n) == nil {
			break
		}
		line = previous
	}
	return line
}

func blankYAML(row []byte) bool {
	row = bytes.TrimSpace(row)
	return len(row) == 0 || row[0] == '#'
}

var (
	yamlIndicator = regexp.MustCompile(`^\s*(?:- +)*[\w"']+: +([*@%` + "`" + `])`)
	yamlFlowPlus  = regexp.MustCompile(`^\s*(?:- +)*[\w"']+: +([\[{])[^\]}]*[\]}][^\s,\]}]`) // {a}:5000
)

// yamlHint knows the usual slips.
func yamlHint(row []byte) string {
	for _, unquoted := range []*regexp.Regexp{yamlFlowPlus, yamlIndicator} {
		if m := unquoted.FindSubmatch(row); m != nil {
			return fmt.Sprintf("put a value that begins with %s in quotes", m[1])
		}
	}
	if bytes.HasPrefix(bytes.TrimLeft(row, " "), []byte("\t")) {
		return "indent with blanks"
	}
	return ""
}

// byteReader gives one byte at a time and counts them.
type byteReader struct {
	data []byte
	read int
}

func (r *byteReader) Read(p []byte) (int, error) {
	if r.read == len(r.data) {
		return 0, io.EOF
	}
	p[0] = r.data[r.read]
	r.read++
	return 1, nil
}
