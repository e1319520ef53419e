package main

import (
	"bytes"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
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
