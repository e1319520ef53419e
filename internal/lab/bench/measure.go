//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// A report is all that --json prints.
type report struct {
	Environment environment      `json:"environment"`
	Seconds     float64          `json:"seconds"`
	Rounds      int              `json:"rounds"`
	Scenarios   []scenarioReport `json:"scenarios"`
}

type scenarioReport struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Rows  []row  `json:"rows"`
}

// measure runs the scenarios and prints them as they are done.
func measure(ctx context.Context, t netlab.T, o options, dir string, out io.Writer, say func(string, ...any)) error {
	tools, err := findTools(dir, say)
	tools.protocol, tools.before = o.protocol, o.before
	if err != nil {
		return err
	}
	b := o.bench(newRig(t, dir), tools)
	r := report{Environment: thisMachine(), Seconds: o.seconds, Rounds: o.rounds}
	if !o.json {
		fmt.Fprintf(out, "%v\nmedians of %d rounds of %g s; topicast is: its figure divided by the peer's\n", r.Environment, o.rounds, o.seconds)
	}
	for _, s := range o.scenarios {
		if (s.kind == latency || s.kind == clean) && !tools.hasMosquitto {
			continue
		}
		rows, err := b.rounds(ctx, s, o.rounds, say)
		if err != nil {
			return err
		}
		r.Scenarios = append(r.Scenarios, scenarioReport{s.name, s.about, rows})
		if !o.json {
			printTable(out, s, rows)
		}
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return nil
}

func (o options) bench(network *rig, tools tooling) *bench {
	b := &bench{rig: network, tooling: tools, seconds: o.seconds, messages: o.messages, step: 1.1, tries: 2}
	if o.quick {
		b.step, b.tries = 10, 1
	}
	return b
}

// rounds runs the peers of a scenario one after the other, again and again. A
// peer that fails does not stop the others.
func (b *bench) rounds(ctx context.Context, s scenario, rounds int, say func(string, ...any)) ([]row, error) {
	samples := map[string][]sample{}
	for n := range rounds {
		for _, name := range s.peers {
			got, err := b.run(ctx, s, name)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.Is(err, errMissing):
				continue // reported before
			case err != nil:
				got = sample{Failure: err.Error()}
				say("%s, round %d: %s: %v", s.name, n+1, name, err)
			}
			samples[name] = append(samples[name], got)
		}
	}
	var rows []row
	for _, name := range s.peers {
		if len(samples[name]) > 0 {
			rows = append(rows, newRow(s.kind, name, samples[name]))
		}
	}
	compare(s.kind, rows)
	return rows, nil
}

// An environment is what the figures hold for.
type environment struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func (e environment) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", e.CPU, e.Cores, e.Kernel, e.Go)
}

func thisMachine() environment {
	e := environment{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		e.CPU = modelName(string(info), e.CPU)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return e
}

// modelName is what /proc/cpuinfo calls the first processor.
func modelName(info, otherwise string) string {
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}
