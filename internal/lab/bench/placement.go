//go:build linux

package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A placement is the processors that a process may use, nil being all, and
// whether it goes before all others.
type placement struct {
	cpus  []int
	first bool
}

// placements keeps the bridge on one processor and the rest off it; on a machine
// with one there is nothing to keep apart.
func placements() (bridge, others placement) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return placement{}, placement{}
	}
	for cpu, left := 0, set.Count(); left > 0; cpu++ {
		if !set.IsSet(cpu) {
			continue
		}
		if left--; left == 0 {
			bridge.cpus = []int{cpu}
		} else {
			others.cpus = append(others.cpus, cpu)
		}
	}
	return bridge, others
}

// apply puts the calling thread in the place, until restore.
func (w placement) apply() (restore func(), err error) {
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	if len(w.cpus) > 0 {
		for _, cpu := range w.cpus {
			set.Set(cpu)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return nil, os.NewSyscallError("sched_setaffinity", err)
		}
	}
	if w.first {
		// Only root may; the others do without.
		_ = unix.SchedSetAttr(0, policy(unix.SCHED_FIFO, 5), 0)
	}
	return func() {
		_ = unix.SchedSetAttr(0, policy(unix.SCHED_NORMAL, 0), 0)
		_ = unix.SchedSetaffinity(0, &before)
	}, nil
}

func policy(number, priority uint32) *unix.SchedAttr {
	a := &unix.SchedAttr{Policy: number, Priority: priority}
	a.Size = uint32(unsafe.Sizeof(*a))
	return a
}
