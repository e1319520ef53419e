package main

import (
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryPercent is how much of what a control group may use is for Go's memory. The
// rest is the code and what the kernel keeps for sockets, which count for the group too.
const memoryPercent = 70

// limitMemory has the collector work harder before memory comes near the limit of the
// control group (MemoryMax= of systemd, --memory of docker), beyond which the kernel ends
// the process. It is garbage that is collected sooner; nothing is refused for it.
// GOMEMLIMIT in the environment goes first.
func limitMemory(limit memlimit.Provider, log *slog.Logger) {
	n, err := memlimit.Set(memlimit.WithRatio(memoryPercent/100.0), memlimit.WithProvider(limit))
	switch {
	case err != nil: // no control groups here, or none that can be read
		log.Debug("the control group's limit of memory is not known", "err", err)
	case n < math.MaxInt64:
		log.Info("memory", "go_limit", n)
	}
}

// maxGarbage is how much memory may be garbage before it is collected, where that is less
// than what is in use; but a quarter of that may be always. Go's own rule, as much again as is
// in use, would have a full queue take twice its size.
const maxGarbage = 8 << 20

// garbagePercent is what to tell the collector (GOGC) when so much is in use.
func garbagePercent(live uint64) int {
	return int(min(max(100*maxGarbage/max(live, 1), 25), 100))
}

// garbageAtReload is how much garbage there may be while a configuration is read, in percent of
// what is in use. A large one takes many times its size then, beside the rules in force.
const garbageAtReload = 10

// reading is how many configurations are being read, beside a bridge that runs.
var reading atomic.Int32

// tightenGarbage has the collector keep to garbageAtReload until end is called, boundGarbage
// or not.
func tightenGarbage() (end func()) {
	reading.Add(1)
	was := debug.SetGCPercent(garbageAtReload)
	return func() {
		reading.Add(-1)
		debug.SetGCPercent(was)
	}
}

// boundGarbage has the collector keep to maxGarbage until end is called: after each collection
// it is told anew. While messages are carried there is next to no garbage, and no collection.
// GOGC in the environment goes first.
func boundGarbage() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	type collected struct{ _ [16]byte } // what is found unused by each collection
	var mu sync.Mutex
	ended, percent := false, 0
	var after func(*collected)
	after = func(*collected) {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		next := garbagePercent(live[0].Value.Uint64())
		if reading.Load() > 0 {
			next = garbageAtReload
		}
		if next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
		runtime.SetFinalizer(new(collected), after)
	}
	after(nil)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
	}
}
