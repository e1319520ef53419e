package main

import (
	"bytes"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"topicast/internal/lab/fake"
)

func TestGoStaysWithinTheControlGroupsMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	none := func() (uint64, error) { return 0, memlimit.ErrNoLimit }
	broken := func() (uint64, error) { return 0, memlimit.ErrNoCgroup }
	for _, tt := range []struct {
		name  string
		limit memlimit.Provider
		env   string // GOMEMLIMIT
		want  int64
		logs  string
	}{
		{"128 MB", memlimit.Limit(128e6), "", 89600000, "msg=memory go_limit=89600000"},
		{"no limit", none, "", math.MaxInt64, ""},
		{"no control groups", broken, "", math.MaxInt64, ""},
		{"given by the environment", memlimit.Limit(128e6), "1GiB", math.MaxInt64, ""}, // Go has read it at its start
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		if tt.env != "" {
			t.Setenv("GOMEMLIMIT", tt.env)
		}
		var out bytes.Buffer
		limitMemory(tt.limit, slog.New(slog.NewTextHandler(&out, nil)))
		if got := debug.SetMemoryLimit(-1); got != tt.want || !strings.Contains(out.String(), tt.logs) || tt.logs == "" && out.Len() > 0 {
			t.Errorf("%s: %d, want %d; %s", tt.name, got, tt.want, out.String())
		}
	}
}

// What is garbage is bounded where much is in use, and the program ends with the collector as
// Go has it where GOGC says so.
func TestGarbageIsBounded(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, 8 << 20: 100, 16 << 20: 50, 1 << 30: 25} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d %%", live, got, want)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "100")
	boundGarbage()()
	t.Setenv("GOGC", "")
	use := make([]byte, 64<<20)
	runtime.GC()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Fatalf("GOGC is given, and %d %% are set", got)
	}
	end := boundGarbage()
	set := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	fake.WaitFor(t, "the collector to be told", func() bool {
		runtime.GC()
		return set() == 25
	})
	// A configuration that is read has its own bound, which no collection takes back.
	done := tightenGarbage()
	debug.SetGCPercent(99) // which the next collection is to end
	fake.WaitFor(t, "the collector to be told of the configuration", func() bool {
		runtime.GC()
		return set() == garbageAtReload
	})
	done()
	fake.WaitFor(t, "the collector to be told after the configuration", func() bool {
		runtime.GC()
		return set() == 25
	})
	end()
	runtime.KeepAlive(use)
	debug.SetGCPercent(77)
	for range 3 {
		runtime.GC()
	}
	if got := set(); got != 77 {
		t.Errorf("%d %% are set after the end", got)
	}
}
