package main

import (
	"log/slog"
	"math"

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
