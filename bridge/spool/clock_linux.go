package spool

import (
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// clockBoottime counts from the system's start, sleep included, which Go's monotonic
// clock leaves out (clock_gettime(2)).
const clockBoottime = 7

// maxSynchronized is the error beyond which the kernel's clock does not count as
// synchronized, as with timedatectl(1). The kernel's estimate grows while nobody
// corrects it, and setting the clock by hand raises it to 16 s at once.
const maxSynchronized = 16 * time.Second

// statusNanoseconds is STA_NANO: the fraction is in nanoseconds.
const statusNanoseconds = 0x2000

// bootClock is the system's clock. Where there is none such, newClock returns
// another.
type bootClock struct{ name string }

func newClock() Clock {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if _, ok := upTime(); err != nil || !ok {
		return newProcessClock()
	}
	// Within a time namespace the clock is another (time_namespaces(7)). There are
	// none before Linux 5.6.
	space, _ := os.Readlink("/proc/self/ns/time")
	return bootClock{strings.TrimSpace(string(id)) + " " + space}
}

func (c bootClock) Boot() string { return c.name }

func (bootClock) Up() time.Duration {
	up, _ := upTime()
	return up
}

func upTime() (up time.Duration, ok bool) {
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}

func (bootClock) TimeOfDay() (now time.Time, within time.Duration, known bool) {
	var t syscall.Timex // without modes it only reads, which needs no privilege (adjtimex(2))
	if _, err := syscall.Adjtimex(&t); err != nil {
		return time.Time{}, 0, false
	}
	within = time.Duration(t.Maxerror) * time.Microsecond
	fraction := time.Duration(t.Time.Usec)
	if t.Status&statusNanoseconds == 0 {
		fraction *= time.Microsecond
	}
	// The time of the same look: nobody has set the clock in between.
	return time.Unix(int64(t.Time.Sec), int64(fraction)), within, within < maxSynchronized
}
