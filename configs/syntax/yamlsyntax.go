package syntax

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var yamlMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// yamlSyntaxError returns the error with its line, and with what was meant if it is
// one of the usual slips.
func yamlSyntaxError(data []byte, keys Keys, err error) *Error {
	match := yamlMessage.FindStringSubmatch(err.Error())
	if match == nil {
		return &Error{Err: err}
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
	if strings.Contains(message, "<document start>") {
		line = yamlOutdented(rows, line)
	}
	if slip := yamlSlip(rows, line, keys, message); slip != nil {
		return slip
	}
	return &Error{At: Place{Line: int32(line)}, Err: errors.New(message)}
}

// yamlOutdented returns the first line that is indented less than the first of all,
// which the library takes for the end of the document.
func yamlOutdented(rows [][]byte, line int) int {
	first := -1
	for i, row := range rows[:line] {
		indent := len(row) - len(bytes.TrimLeft(row, " "))
		switch {
		case blankYAML(row):
		case first < 0:
			first = indent
		case indent < first:
			return i + 1
		}
	}
	return line
}

// yamlStop returns a line in which the library has noticed the fault. It names none
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
