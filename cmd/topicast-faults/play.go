//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// An act is a fault in one direction: a row of the table.
type act struct {
	fault
	way way
}

func (a act) String() string { return a.name + "/" + string(a.way) }

// choose picks acts by patterns, parted by commas; none picks all.
func choose(only string) (chosen []act, err error) {
	var patterns []string
	if only != "" {
		patterns = strings.Split(only, ",")
	}
	used := make([]bool, len(patterns))
	for _, f := range faults {
		for _, w := range f.ways {
			a := act{f, w}
			picked := len(patterns) == 0
			for i, p := range patterns {
				byName, err := path.Match(p, a.name)
				if err != nil {
					return nil, fmt.Errorf("--only %s: %w", p, err)
				}
				byBoth, _ := path.Match(p, a.String())
				if byName || byBoth {
					picked, used[i] = true, true
				}
			}
			if picked {
				chosen = append(chosen, a)
			}
		}
	}
	for i, p := range patterns {
		if !used[i] {
			return nil, fmt.Errorf("--only %s: no such fault; --help lists them", p)
		}
	}
	return chosen, nil
}

// compile puts the topicast to judge into dir.
func compile(ctx context.Context, dir, topicast string) error {
	if topicast != "" {
		file, err := exec.LookPath(topicast)
		if err != nil {
			return err
		}
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		return os.Symlink(file, binaryIn(dir))
	}
	say("building topicast")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binaryIn(dir), "topicast/cmd/topicast").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build topicast, from a directory of its module: %w\n%s", err, out)
	}
	return nil
}

func binaryIn(dir string) string { return filepath.Join(dir, "topicast") }

// newBuild asks the binary what it knows.
func newBuild(ctx context.Context, dir string) (build, error) {
	b := build{binary: binaryIn(dir), knows: map[string]bool{}}
	for _, k := range []struct {
		what string
		ask  []string
		sign *regexp.Regexp
	}{
		{"spool", []string{"config"}, regexp.MustCompile(`(?m)^spool:`)},
		{"reload", []string{"run", "--help"}, regexp.MustCompile(`SIGHUP`)},
	} {
		out, err := exec.CommandContext(ctx, b.binary, k.ask...).Output()
		if err != nil {
			return b, fmt.Errorf("topicast %s: %w", strings.Join(k.ask, " "), err)
		}
		b.knows[k.what] = k.sign.Match(out)
	}
	return b, nil
}

// playAll plays the acts, some at a time, and returns their rows in order.
func playAll(ctx context.Context, b build, dir string, o options) []row {
	rows := make([]row, len(o.acts))
	free := make(chan struct{}, o.parallel)
	var all sync.WaitGroup
	for i, a := range o.acts {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			rows[i] = play(ctx, b, dir, o, a)
			say("%d of %d: %v: %s", i+1, len(o.acts), a, rows[i].verdict())
		})
	}
	all.Wait()
	return rows
}

// play plays one act on a stage of its own.
func play(ctx context.Context, b build, dir string, o options, a act) row {
	r := row{fault: a.name, about: a.about, way: a.way, limited: a.limited}
	switch {
	case ctx.Err() != nil:
		r.absent = interrupted
		return r
	case a.needs != "" && !b.knows[a.needs]:
		r.absent = notInBuild
		return r
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	err := keep(func(t testing.TB) error {
		s, err := setStage(own, t, b, dir, o, a)
		if err != nil {
			return err
		}
		s.row = r
		defer func() { r = s.row }()
		defer s.keepLogs(o.logs, a.String())
		if a.prepare != nil {
			a.prepare(s)
		}
		if err := s.start(o.rate); err != nil {
			return err
		}
		s.cut()
		a.run(s)
		s.over()
		s.finish()
		return nil
	})
	if err != nil {
		r.failures = append(r.failures, err.Error())
	}
	if ctx.Err() != nil {
		r.absent = interrupted // what it shows is not the fault's doing
	}
	return r
}

// setStage makes a stage in a folder of its own.
func setStage(ctx context.Context, t testing.TB, b build, dir string, o options, a act) (*stage, error) {
	own, err := os.MkdirTemp(dir, a.name+"-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	s := newStage(ctx, t, own, a.way)
	s.build, s.times, s.deaf = b, o.times, a.deaf
	// What the witness does not take in time is not to be lost: it is not judged.
	s.broker.deep = a.way == receiving
	return s, os.Mkdir(s.spoolDir(), 0o700)
}

// keepLogs writes what the processes said, where that was asked for.
func (s *stage) keepLogs(dir, act string) {
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		say("--keep-logs: %v", err)
		return
	}
	for _, p := range s.started {
		name := strings.ReplaceAll(act, "/", "-") + "-" + p.name + ".log"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.Output()), 0o644); err != nil {
			say("--keep-logs: %v", err)
		}
	}
}

func verdicts(rows []row) string {
	var all []string
	for _, r := range rows {
		all = append(all, r.verdict())
	}
	return strings.Join(all, " ")
}
