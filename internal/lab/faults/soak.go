//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// soak lets faults happen at random for a long time to one bridge, and prints what
// it uses at intervals. It is an error if anything was lost.
func soak(ctx context.Context, b build, dir string, o options, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return harness.WithT(func(t netlab.T) error {
		r, err := newScenarioRig(ctx, t, b, dir, o, scenario{fault{name: "soak"}, sending})
		if err != nil {
			return err
		}
		defer func() { program.KeepLogs(o.Logs, "soak", r.processes) }()
		r.times.hold = 2 * time.Second
		deepQueue(r)
		if err := r.start(o.rate); err != nil {
			return err
		}
		stop := r.watchUse(w, max(o.soak/20, 2*time.Second))
		r.randomFaults(o)
		stop()
		r.row.about, r.row.way = "soak", sending
		rows := []row{r.finish()}
		harness.PrintTable(w, heads, rows)
		return harness.Failed(rows, "rows failed")
	})
}

// randomFaults lets faults happen until the time is over.
func (r *rig) randomFaults(o options) {
	var some []fault
	for _, f := range faults {
		if f.soak && (f.needs == "" || r.build.has[f.needs]) {
			some = append(some, f)
		}
	}
	happened := map[string]int{}
	for end := time.Now().Add(o.soak); time.Now().Before(end) && r.ctx.Err() == nil; {
		r.pause(time.Second + rand.N(4*time.Second))
		f := some[rand.N(len(some))]
		f.run(r)
		r.awaitRecovery()
		happened[f.name]++
	}
	for _, f := range some {
		r.addNote("%s: %d times", f.about, happened[f.name])
	}
}

// use is what a process uses.
type use struct {
	resident    float64 // MB
	descriptors int
	goroutines  int // -1: it has no such metric
	in, out     int
}

// watchUse prints a line at intervals, until stop is called.
func (r *rig) watchUse(w io.Writer, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	fmt.Fprintf(w, "%10s %12s %12s %12s %12s %12s\n", "after", "resident MB", "descriptors", "goroutines", "in", "out")
	go func() {
		defer close(done)
		began := time.Now()
		for harness.Pause(ctx, every); ctx.Err() == nil; harness.Pause(ctx, every) {
			u, err := r.use()
			if err != nil {
				fmt.Fprintf(w, "%10v %v\n", time.Since(began).Round(time.Second), err)
				continue
			}
			goroutines := fmt.Sprint(u.goroutines)
			if u.goroutines < 0 {
				goroutines = "–"
			}
			fmt.Fprintf(w, "%10v %12.1f %12d %12s %12d %12d\n", time.Since(began).Round(time.Second), u.resident, u.descriptors, goroutines, u.in, u.out)
		}
	}()
	return func() { cancel(); <-done }
}

func (r *rig) use() (u use, err error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.bridge.Process.Pid))
	if err != nil {
		return u, errors.New("topicast is gone")
	}
	u = use{resident: r.memory(), descriptors: len(files), goroutines: -1}
	samples, _ := r.metrics() // where it does not answer, the rest is still of use
	for _, m := range samples {
		if m.Name == "go_goroutines" {
			u.goroutines = int(m.Value)
		}
	}
	for name, c := range r.counts {
		u.in += r.feed.next(name)
		u.out += c.within([]span{{0, r.feed.next(name)}})
		c.takeLatencies() // which nobody asks for here
	}
	return u, nil
}
