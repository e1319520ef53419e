package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"topicast/mapping"
)

var searchPath = []string{"topicast.yaml", "/etc/topicast/topicast.yaml"}

// Load reads a configuration: YAML, TOML or JSON, told by the file's extension
// (.yaml or .yml, .toml, .json). If file is "", it is the one that the variable
// TOPICAST_CONFIG names, else ./topicast.yaml, else /etc/topicast/topicast.yaml.
//
// flags are those of AddFlags, or nil. The error is an Errors with every fault
// there is; then there is no Config.
//
// Nothing outside the file is looked at: passwords and certificates are read
// when they are needed, and whether this host has an interface or an address is
// found out by whoever opens it.
func Load(file string, flags *pflag.FlagSet) (*Config, error) {
	file, data, err := read(file, searchPath)
	if err != nil {
		return nil, Errors{err}
	}
	return load(file, data, flags)
}

const writeOne = "topicast config > topicast.yaml writes one to start from"

// read finds the file and reads it.
func read(file string, search []string) (string, []byte, *Error) {
	named := "" // by what
	if file == "" {
		if file = os.Getenv("TOPICAST_CONFIG"); file != "" {
			named = "TOPICAST_CONFIG: "
		}
	}
	if file == "" {
		for _, candidate := range search {
			if _, err := os.Stat(candidate); !errors.Is(err, fs.ErrNotExist) {
				file = candidate
				break
			}
		}
	}
	if file == "" {
		return "", nil, &Error{
			Err:  fmt.Errorf("no configuration: there is neither %s", strings.Join(search, " nor ")),
			Hint: writeOne + "; --config names another",
		}
	}
	data, err := os.ReadFile(file)
	if err == nil {
		return file, data, nil
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err // the outer one repeats the name of the file
	}
	e := &Error{Origin: named + file, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = writeOne
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make it readable for the user that topicast runs as"
	}
	return "", nil, e
}

func load(file string, data []byte, flags *pflag.FlagSet) (*Config, error) {
	root, syntax := parse(file, data)
	if syntax != nil {
		return nil, Errors{{
			Origin: file, Line: int(syntax.at.line), Column: int(syntax.at.column),
			Err: syntax.err, Hint: syntax.hint,
		}}
	}
	d := &decoder{file: file, reported: make(map[string]bool)}
	found, lists := make(map[string]any), make(map[string]*node)
	switch root.kind {
	case null: // nothing but comments
	case table:
		d.sections(&root, schema(), "", func(f *field, e *entry) {
			if f.list {
				lists[f.key] = &e.value
			} else {
				found[f.path] = &e.value
			}
		})
	default:
		return nil, Errors{{
			Origin: file, Line: int(root.at.line), Column: int(root.at.column),
			Err: fmt.Errorf("the file is %s; it must be sections such as broker and send", root.kind), Hint: writeOne,
		}}
	}
	var doc document
	s := newScalars(d, flags)
	s.decode(&doc, found)
	s.check(&doc)
	compiled := d.compile(&root, lists, doc.Spool.MaxAge)
	if compiled != nil {
		s.checkLoops(&doc.Loops, compiled)
	}

	d.errs.sort()
	if all := append(d.errs, s.errs...); len(all) > 0 {
		return nil, all
	}
	c := &Config{
		File: file, Broker: doc.Broker, Queue: doc.Queue, Spool: doc.Spool, Loops: doc.Loops,
		Web: doc.Web, Log: doc.Log, Table: compiled, root: root, sum: sumOf(data),
	}
	c.Warnings = append(c.warnings(), s.warnings...)
	c.Warnings.sort()
	return c, nil
}

// parse reads the format that the extension says.
func parse(file string, data []byte) (node, *syntaxError) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, as Windows editors write
	switch ext := strings.ToLower(filepath.Ext(file)); ext {
	case ".yaml", ".yml":
		return parseYAML(data)
	case ".toml":
		return parseTOML(data)
	case ".json":
		return parseJSON(data)
	default:
		return node{}, &syntaxError{
			err:  fmt.Errorf("the extension %q is of no format that is known here", ext),
			hint: "name it .yaml, .toml or .json",
		}
	}
}

// compile decodes the rules, and adds the faults that only the rules as a whole
// show. maxAge is that of the rules that have none.
func (d *decoder) compile(root *node, lists map[string]*node, maxAge time.Duration) *mapping.Table {
	compiled, err := mapping.Compile(d.rules(lists, maxAge))
	if err == nil {
		return compiled
	}
	faults := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		faults = joined.Unwrap()
	}
	for _, one := range faults {
		fault := &mapping.Fault{Err: one}
		errors.As(one, &fault)
		// A group that cannot be read is not missing as well.
		rule, _, _ := strings.Cut(fault.Path, ".")
		if !d.reported[fault.Path] && !d.reported[rule] {
			d.fault(root.locate(fault.Path), fault.Path, withHint(fault.Hint, fault.Err))
		}
	}
	return nil
}

// warnings gives the table's warnings their lines, and adds those about the
// status topic, which the table does not know.
func (c *Config) warnings() Errors {
	var all Errors
	add := func(path, text string) {
		line, column := c.At(path)
		all = append(all, &Error{Origin: c.File, Line: line, Column: column, Path: path, Err: errors.New(text)})
	}
	for _, w := range c.Table.Warnings() {
		add(w.Path, w.Text)
	}
	status := c.Broker.StatusTopic // "", for nowhere, matches nothing
	for _, target := range c.Table.Lookup(status, nil) {
		add(fmt.Sprintf("send[%d].filter", target.Rule),
			fmt.Sprintf("matches our own status topic %s, so online and offline are sent to the group too", status))
	}
	for i, r := range c.Table.Receive() {
		if r.Topic.Matches(status) {
			add(fmt.Sprintf("receive[%d].topic", i),
				fmt.Sprintf("can be our own status topic %s, so a datagram can take the place of online and offline", status))
		}
	}
	return all
}
