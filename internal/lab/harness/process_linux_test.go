package harness

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSizesOfAProcessAreRead(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t    4000 kB\nVmRSS:\t    2000 kB\n")
	if got := statusMB(status, "VmRSS"); got != 2.048 {
		t.Errorf("VmRSS: %v MB, want 2.048", got)
	}
	if got := statusMB(status, "VmSwap"); got != 0 {
		t.Errorf("VmSwap, which is not there: %v", got)
	}
}

func TestThePeakIsThatOfTheRun(t *testing.T) {
	grow := func() { // by 64 MiB, and back
		b, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Munmap(b)
	}
	grow()
	if err := ForgetPeak(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if now, peak, err := Memory(os.Getpid()); err != nil || now <= 0 || peak > now+32 {
		t.Errorf("%v MB now, %v at most, %v: what was before counts", now, peak, err)
	}
	grow()
	if now, peak, err := Memory(os.Getpid()); err != nil || peak < now+32 {
		t.Errorf("%v MB now, %v at most, %v: what was since does not count", now, peak, err)
	}
}
