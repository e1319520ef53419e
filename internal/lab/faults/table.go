//go:build linux

package main

import (
	"fmt"
	"time"

	"topicast/internal/lab/harness"
)

// A row is what one fault did in one direction.
type row struct {
	fault, about   string
	way            way
	in, out        int
	duplicates     int
	disorders      int
	drops          int // counted by topicast
	heal           time.Duration
	neverRecovered bool // nothing arrived after the fault
	limited        bool // a limit was set to be exceeded
	once           bool // nothing may come twice
	harness.Outcome
}

// Why a row shows nothing, if it was not interrupted.
const (
	notInBuild = "not in this build, or not in this kernel"
	notAsked   = "not asked for (--step-clock)"
)

// inDoubt is how many messages may have left and still be counted as dropped: those
// of the call to the kernel in whose time the carrier went. They wait to leave again,
// and where a limit was set to be exceeded, never do.
const inDoubt = 64

func (r row) lost() int { return r.in - r.out }

// Judge is the verdict's part of [harness.Row].
func (r row) Judge() (reasons []string) {
	switch {
	case r.in == 0:
		reasons = append(reasons, "no message went in")
	case r.limited && (r.drops < r.lost() || r.drops > r.lost()+inDoubt):
		reasons = append(reasons, fmt.Sprintf("%d lost, and %d counted as dropped", r.lost(), r.drops))
	case !r.limited && r.lost() != 0:
		reasons = append(reasons, fmt.Sprintf("%d lost", r.lost()))
	}
	if r.once && r.duplicates > 0 {
		reasons = append(reasons, fmt.Sprintf("%d came twice", r.duplicates))
	}
	if r.disorders > 0 {
		reasons = append(reasons, fmt.Sprintf("%d out of order", r.disorders))
	}
	if r.neverRecovered {
		reasons = append(reasons, "nothing arrived after the fault")
	}
	return reasons
}

var heads = []string{"fault", "way", "in", "out", "lost", "duplicated", "disordered", "dropped", "heal, s", ""}

// Names is the row's part of [harness.Row], as the methods below are.
func (r row) Names() []string { return []string{r.about, string(r.way)} }

func (r row) Title() string { return fmt.Sprintf("%s (%s)", r.about, r.way) }

func (r row) Figures() []string {
	number := func(n int) string { return fmt.Sprint(n) }
	heal := fmt.Sprintf("%.3f", r.heal.Seconds())
	if r.neverRecovered {
		heal = "never"
	}
	return []string{number(r.in), number(r.out), number(r.lost()), number(r.duplicates),
		number(r.disorders), number(r.drops), heal}
}
