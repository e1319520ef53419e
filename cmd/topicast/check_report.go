package main

import (
	"encoding/json"
	"io"
	"slices"
	"strings"

	"topicast/configs"
)

// The words of a report, which programs read.
const (
	severityError   = "error"
	severityWarning = "warning"
	severityNote    = "note" // how a host is as it comes: never a fault

	scopeFile        = "file"
	scopeEnvironment = "environment" // a variable has it
	scopeHost        = "host"        // another host may not have it
)

// checkReport is what check has to say, of all files.
type checkReport struct {
	strict   bool // warnings are faults
	quiet    bool // notes are not said
	files    []checkedFile
	findings []checkFinding
}

// checkedFile and checkFinding are what --json prints.
type checkedFile struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`

	faults int
}

type checkFinding struct {
	Severity string `json:"severity"`
	Scope    string `json:"scope"`
	File     string `json:"file"`
	Variable string `json:"variable"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Key      string `json:"key"`
	Message  string `json:"message"`
	Hint     string `json:"hint"`

	err *configs.Error
}

// begin begins with the next file.
func (r *checkReport) begin(file string) {
	r.files = append(r.files, checkedFile{File: file, OK: true})
}

// add adds what there is to say of that file. It returns what of it is new, and no
// fault: what one variable has wrong is of all files, and said once.
func (r *checkReport) add(scope, severity string, list configs.Errors) (said configs.Errors) {
	if r.strict && severity == severityWarning {
		severity = severityError
	}
	file := &r.files[len(r.files)-1]
	for _, e := range list {
		if severity == severityError {
			file.faults++
			file.OK = false
		}
		f := checkFinding{Severity: severity, Scope: scope, File: e.Origin, Line: e.Line, Column: e.Column, Key: e.Path, Message: e.Err.Error(), Hint: e.Hint, err: e}
		if e.Variable {
			// TOPICAST_CONFIG is said together with the file that it names.
			f.Variable, f.File, _ = strings.Cut(e.Origin, ": ")
			if scope == scopeFile {
				f.Scope = scopeEnvironment
			}
		}
		if slices.ContainsFunc(r.findings, func(g checkFinding) bool { return g.err.Error() == e.Error() }) {
			continue
		}
		r.findings = append(r.findings, f)
		if severity != severityError {
			said = append(said, e)
		}
	}
	return said
}

func (r *checkReport) failed() bool {
	return slices.ContainsFunc(r.files, func(f checkedFile) bool { return !f.OK })
}

// faultsOfHost reports whether a fault may be none on another host.
func (r *checkReport) faultsOfHost() bool {
	return slices.ContainsFunc(r.findings, func(f checkFinding) bool { return f.Severity == severityError && f.Scope == scopeHost })
}

// verdict is what the last file comes to: "ok", or "2 faults".
func (r *checkReport) verdict() string {
	if n := r.files[len(r.files)-1].faults; n > 0 {
		return count(n, "fault")
	}
	return "ok"
}

// printFaults prints the faults of all files for a person.
func (r *checkReport) printFaults(w io.Writer) {
	var faults configs.Errors
	for _, f := range r.findings {
		if f.Severity == severityError {
			faults = append(faults, f.err)
		}
	}
	if len(faults) > 0 {
		printError(w, faults)
	}
}

func (r *checkReport) printJSON(w io.Writer) error {
	number := make(map[string]int)
	for _, f := range r.findings {
		number[f.Severity]++
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		OK       bool           `json:"ok"`
		Faults   int            `json:"faults"`
		Warnings int            `json:"warnings"`
		Files    []checkedFile  `json:"files"`
		Findings []checkFinding `json:"findings"`
	}{!r.failed(), number[severityError], number[severityWarning], r.files, append([]checkFinding{}, r.findings...)})
}
