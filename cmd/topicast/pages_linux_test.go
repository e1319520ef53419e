package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestOnlyWhatTheFileStillHasIsGivenBack(t *testing.T) {
	const smaps = `00400000-00fdb000 r-xp 00000000 fe:00 9987510                    /opt/my tools/topicast
Size:              12140 kB
Rss:                1344 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00fdb000-01c05000 r--p 00bdb000 fe:00 9987510                    /opt/my tools/topicast
Anonymous:             0 kB
01c05000-01c06000 r--p 01805000 fe:00 9987510                    /opt/my tools/topicast
Anonymous:             4 kB
01c06000-01c80000 rw-p 01806000 fe:00 9987510                    /opt/my tools/topicast
Anonymous:             0 kB
01c80000-03cc6000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f8910100000-7f8910163000 r-xp 00026000 fe:00 326269             /usr/lib/libc.so.6
Anonymous:             0 kB
`
	got := cleanStretches([]byte(smaps), "/opt/my tools/topicast")
	want := []stretch{{0x400000, 0xbdb000}, {0xfdb000, 0xc2a000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stretch{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is given back is no longer counted as ours, and comes again when it is needed.
func TestTheProgramGetsSmallerAndGoesOn(t *testing.T) {
	touchCode(t)
	before := residentFile(t)
	returnCode()
	if after := residentFile(t); after > before/2 {
		t.Errorf("%d kB of files resident, and %d before", after, before)
	}
}

// touchCode makes all pages resident that returnCode gives back, as a start does with
// many of them: how many are just now is for the kernel to decide.
func touchCode(t *testing.T) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range cleanStretches(smaps, program) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.start, m.size, unix.MADV_POPULATE_READ) // since Linux 5.14
	}
}

// residentFile is how much of files is resident, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "RssFile:")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		t.Skip("this kernel does not tell the pages of files apart")
	}
	kB, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return kB
}
