//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// A scenario is a fault in one direction: a row of the table.
type scenario struct {
	fault
	way way
}

func (a scenario) String() string { return a.name + "/" + string(a.way) }

// choose picks scenarios by their names, or by those of their faults; see [harness.Choose].
func choose(only string) ([]scenario, error) {
	var all []scenario
	for _, f := range faults {
		for _, w := range f.ways {
			all = append(all, scenario{f, w})
		}
	}
	return harness.Choose(only, all, func(a scenario) []string { return []string{a.name, a.String()} })
}

// newBuild asks the binary what features it has.
func newBuild(ctx context.Context, dir string) (build, error) {
	b := build{binary: harness.Topicast(dir), has: map[string]bool{}}
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
		b.has[k.what] = k.sign.Match(out)
	}
	b.has[kernelVRF] = netlab.KernelHas("vrf")
	return b, nil
}

// kernelVRF is what a fault needs that has to do with VRFs.
const kernelVRF = "VRF in the kernel"

// runAll runs the scenarios, some at a time, and returns their rows in order.
func runAll(ctx context.Context, b build, dir string, o options) []row {
	return harness.RunAll(&program, o.Parallel, o.scenarios, scenario.String,
		func(a scenario) row { return runScenario(ctx, b, dir, o, a) })
}

// runScenario runs one on a rig of its own.
func runScenario(ctx context.Context, b build, dir string, o options, a scenario) row {
	result := row{fault: a.name, about: a.about, way: a.way, limited: a.limited, once: a.once}
	switch {
	case ctx.Err() != nil:
		result.Absent = harness.Interrupted
		return result
	case a.needs != "" && !b.has[a.needs]:
		result.Absent = notInBuild
		if a.needs == steppedClock {
			result.Absent = notAsked
		}
		return result
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	err := harness.WithT(func(t netlab.T) error {
		r, err := newScenarioRig(own, t, b, dir, o, a)
		if err != nil {
			return err
		}
		r.row = result
		defer func() { result = r.row }()
		defer func() { program.KeepLogs(o.Logs, a.String(), r.processes) }()
		if a.prepare != nil {
			a.prepare(r)
		}
		if err := r.start(o.rate); err != nil {
			return err
		}
		r.closeSpans()
		a.run(r)
		r.awaitRecovery()
		r.finish()
		return nil
	})
	if err != nil {
		result.Fail("%v", err)
	}
	if ctx.Err() != nil {
		result.Absent = harness.Interrupted // what it shows is not the fault's doing
	}
	return result
}

// newScenarioRig makes a rig in a folder of its own.
func newScenarioRig(ctx context.Context, t netlab.T, b build, dir string, o options, a scenario) (*rig, error) {
	own, err := os.MkdirTemp(dir, a.name+"-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	r := newRig(ctx, t, own, a.way)
	r.build, r.times, r.cannotReceive, r.protocol = b, o.times, a.cannotReceive, o.Protocol
	// What the subscriber does not take in time is not to be lost: it is not judged.
	r.broker.deep = a.way == receiving
	return r, os.Mkdir(r.spoolDir(), 0o700)
}
