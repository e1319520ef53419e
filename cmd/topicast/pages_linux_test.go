package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	before := residentFile(t)
	returnCode()
	if after := residentFile(t); after > before/2 {
		t.Errorf("%d kB of files resident, and %d before", after, before)
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
