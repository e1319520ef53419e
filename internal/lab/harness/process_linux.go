package harness

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long the programs of the lab wait for what they need themselves.
// Nothing should take as long.
const Patience = 15 * time.Second

// CPU is the processor time of all threads of a process so far.
func CPU(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): MAKE_PROCESS_CPUCLOCK of linux/posix-timers.h, with CPUCLOCK_SCHED.
	clock := int32(^pid)<<3 | 2
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory is what is resident of a process now, and the most that was, in MB (10⁶ bytes).
func Memory(pid int) (now, peak float64, err error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, err
	}
	return statusMB(status, "VmRSS"), statusMB(status, "VmHWM"), nil
}

// ForgetPeak has the most that was resident count from now: what a program needs at its
// start is not what it needs under load.
func ForgetPeak(pid int) error {
	const peakOnly = "5" // proc_pid_clear_refs(5)
	return os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte(peakOnly), 0)
}

// statusMB reads a size from /proc/PID/status.
func statusMB(status []byte, key string) float64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err == nil {
				return float64(kb) * 1024 / 1e6
			}
		}
	}
	return 0
}

// Pause waits for d, or less if ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Until polls, for what happens in other processes tells nobody. It reports whether
// done was true within the limit.
func Until(ctx context.Context, limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); Pause(ctx, 5*time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return false
		}
	}
	return true
}
