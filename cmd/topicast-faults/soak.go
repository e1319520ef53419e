//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// soak lets faults happen at random for a long time to one bridge, and prints what
// it uses at intervals. It reports whether nothing was lost.
func soak(ctx context.Context, b build, dir string, o options, w io.Writer) (ok bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = keep(func(t testing.TB) error {
		s, err := setStage(ctx, t, b, dir, o, act{fault{name: "soak"}, sending})
		if err != nil {
			return err
		}
		defer s.keepLogs(o.logs, "soak")
		s.times.hold = 2 * time.Second
		deepQueue(s)
		if err := s.start(o.rate); err != nil {
			return err
		}
		stop := s.watchUse(w, max(o.soak/20, 2*time.Second))
		s.misfortunes(o)
		stop()
		s.row.about, s.row.way = "soak", sending
		r := s.finish()
		printTable(w, []row{r})
		ok = r.verdict() == "ok"
		return nil
	})
	return ok, err
}

// misfortunes lets faults happen until the time is over.
func (s *stage) misfortunes(o options) {
	var some []fault
	for _, f := range faults {
		if f.soak && (f.needs == "" || s.build.knows[f.needs]) {
			some = append(some, f)
		}
	}
	happened := map[string]int{}
	for end := time.Now().Add(o.soak); time.Now().Before(end) && s.ctx.Err() == nil; {
		s.pass(time.Second + rand.N(4*time.Second))
		f := some[rand.N(len(some))]
		f.run(s)
		s.over()
		happened[f.name]++
	}
	for _, f := range some {
		s.tell("%s: %d times", f.about, happened[f.name])
	}
}

// use is what a process uses.
type use struct {
	resident    float64 // MB
	descriptors int
	goroutines  int // -1: it does not tell
	in, out     int
}

// watchUse prints a line at intervals, until stop is called.
func (s *stage) watchUse(w io.Writer, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	fmt.Fprintf(w, "%10s %12s %12s %12s %12s %12s\n", "after", "resident MB", "descriptors", "goroutines", "in", "out")
	go func() {
		defer close(done)
		began := time.Now()
		for pause(ctx, every); ctx.Err() == nil; pause(ctx, every) {
			u, err := s.use()
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

func (s *stage) use() (u use, err error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.bridge.Process.Pid))
	if err != nil {
		return u, errors.New("topicast is gone")
	}
	u = use{resident: s.memory(), descriptors: len(files), goroutines: -1}
	samples, _ := s.metrics() // where it does not answer, the rest still tells
	for _, m := range samples {
		if m.name == "go_goroutines" {
			u.goroutines = int(m.value)
		}
	}
	for name, c := range s.counts {
		u.in += s.feed.next(name)
		u.out += c.within([]span{{0, s.feed.next(name)}})
		c.takeLatencies() // which nobody asks for here
	}
	return u, nil
}
