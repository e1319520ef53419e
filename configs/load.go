package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"topicast/configs/syntax"
	"topicast/mapping"
)

var searchPath = []string{"topicast.yaml", "/etc/topicast/topicast.yaml"}

// Load reads a configuration: YAML, TOML or JSON, by the file's extension
// (.yaml or .yml, .toml, .json). If file is "", it is the one that the variable
// TOPICAST_CONFIG names, else ./topicast.yaml, else /etc/topicast/topicast.yaml.
//
// flags are those of AddFlags, or nil. The error is an Errors with every fault
// there is, up to a hundred; then there is no Config.
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

// find returns the file to read, "" if there is none, and what named it, for an error.
func find(file string, search []string) (found, named string) {
	if file != "" {
		return file, ""
	}
	if file = os.Getenv(configVar); file != "" {
		return file, configVar + ": "
	}
	for _, candidate := range search {
		if _, err := os.Stat(candidate); !errors.Is(err, fs.ErrNotExist) {
			return candidate, ""
		}
	}
	return "", ""
}

const writeOne = "topicast config > topicast.yaml writes one to start from"

// readConfig reads a configuration, which may be a pipe, as a shell makes one of
// <(command).
func readConfig(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, file, maxFile)
}

// read finds the file and reads it.
func read(file string, search []string) (string, []byte, *Error) {
	file, named := find(file, search)
	if file == "" {
		return "", nil, &Error{
			Err:  fmt.Errorf("no configuration: there is neither %s", strings.Join(search, " nor ")),
			Hint: writeOne + "; --config names another",
		}
	}
	data, err := readConfig(file)
	if err == nil {
		return file, data, nil
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err // the outer one repeats the name of the file
	}
	e := &Error{Origin: named + file, Err: err, Variable: named != ""}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = writeOne
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make it readable for the user that topicast runs as"
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOTDIR):
		e.Hint = hintOfPath(err)
	case isFolder(file):
		e.Hint = "name the file in it: " + filepath.Join(file, searchPath[0])
	}
	return "", nil, e
}

func isFolder(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.IsDir()
}

func load(file string, data []byte, flags *pflag.FlagSet) (*Config, error) {
	root, broken := parse(file, data)
	if broken != nil {
		return nil, Errors{{
			Origin: file, Line: int(broken.At.Line), Column: int(broken.At.Column),
			Err: broken.Err, Hint: syntaxHint(broken, data),
		}}
	}
	d := &decoder{file: file, reported: make(map[string]bool)}
	found, lists := make(map[string]any), make(map[string]*syntax.Node)
	switch root.Kind {
	case syntax.Null: // nothing but comments
	case syntax.Table:
		d.sections(&root, schema(), "", func(f *field, e *syntax.Entry) {
			if f.list {
				lists[f.key] = &e.Value
			} else {
				found[f.path] = &e.Value
			}
		})
	default:
		return nil, Errors{{
			Origin: file, Line: int(root.At.Line), Column: int(root.At.Column),
			Err: fmt.Errorf("the file is %s; it must be sections such as broker and send", root.Kind), Hint: writeOne,
		}}
	}
	var doc document
	s := newScalars(d, flags)
	s.decode(&doc, found)
	s.check(&doc)
	faults, slips := checkEnvironment(os.Environ())
	s.errs, s.warnings = append(s.errs, faults...), append(s.warnings, slips...)
	compiled := d.compile(&root, lists, doc.Spool.MaxAge)
	if compiled != nil {
		s.checkLoops(&doc.Loops, compiled)
	}

	d.errs.sort()
	if all := append(d.errs, s.errs...); len(all) > 0 {
		return nil, all.first(maxFaults, !d.cut)
	}
	c := &Config{
		File: file, Broker: doc.Broker, Queue: doc.Queue, Spool: doc.Spool, Loops: doc.Loops,
		Web: doc.Web, Control: doc.Control, Log: doc.Log, Table: compiled, root: root, content: data, sum: sumOf(data),
		scalarWarnings: s.warnings, origins: s.origins,
	}
	c.Warnings = c.warnings()
	return c, nil
}

// compile decodes the rules, and adds the faults that only the rules as a whole
// show. maxAge is that of the rules that have none.
func (d *decoder) compile(root *syntax.Node, lists map[string]*syntax.Node, maxAge time.Duration) *mapping.Table {
	compiled, err := mapping.CompileOwn(d.rules(lists, maxAge))
	if err == nil {
		return compiled
	}
	faults := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		faults = joined.Unwrap()
	}
	d.cut = d.cut || len(faults) >= mapping.MaxFaults
	for _, one := range faults {
		fault := &mapping.Fault{Err: one}
		errors.As(one, &fault)
		// A group that cannot be read is not missing as well.
		rule, _, _ := strings.Cut(fault.Path, ".")
		if !d.reported[fault.Path] && !d.reported[rule] {
			d.fault(root.Locate(fault.Path), fault.Path, withHint(fault.Hint, fault.Err))
		}
	}
	return nil
}

// On has the table, and with it the warnings, be that for a host: with its interfaces, where
// rules have several, and what else these are called.
func (c *Config) On(h mapping.HostInterfaces) {
	if table := c.Table.On(h); table != c.Table {
		c.Table = table
		c.Warnings = c.warnings()
	}
}

// warnings gives the table's warnings their lines, and adds those of the scalars and
// those about the status topic, which the table does not know.
func (c *Config) warnings() Errors {
	all := slices.Clone(c.scalarWarnings)
	said := make(map[[2]string]bool) // of a rule by each of its interfaces, once
	add := func(path, text string) {
		if said[[2]string{path, text}] {
			return
		}
		said[[2]string{path, text}] = true
		line, column := c.At(path)
		all = append(all, &Error{Origin: c.File, Line: line, Column: column, Path: path, Err: errors.New(text)})
	}
	for _, w := range c.Table.Warnings() {
		add(w.Path, w.Text)
	}
	status := c.Broker.StatusTopic // "", for nowhere, matches nothing
	for _, target := range c.Table.Lookup(status, nil) {
		add(fmt.Sprintf("send[%d].filter", c.Table.SendPlace(target.Rule)),
			fmt.Sprintf("matches our own status topic %s, so online and offline are sent to the group too", status))
	}
	for i, r := range c.Table.Receive() {
		if r.Topic.Matches(status) {
			add(fmt.Sprintf("receive[%d].topic", c.Table.ReceivePlace(i)),
				fmt.Sprintf("can be our own status topic %s, so a datagram can take the place of online and offline", status))
		}
	}
	for i, r := range c.Table.Receive() {
		if status == "" || r.Expect == 0 {
			continue
		}
		word := r.WordTopic(status)
		for _, target := range c.Table.Lookup(word, nil) {
			add(fmt.Sprintf("send[%d].filter", c.Table.SendPlace(target.Rule)),
				fmt.Sprintf("matches %s, on which it is told whether receive[%d] hears something, so that is sent to the group too", word, c.Table.ReceivePlace(i)))
		}
	}
	all.sort()
	return all
}
