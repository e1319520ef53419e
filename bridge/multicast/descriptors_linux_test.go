package multicast

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limitDescriptors sets how many this process may have, for a test that runs alone.
func limitDescriptors(t *testing.T, limit uint64) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
}

// Sockets of rules leave file descriptors for what heals, and for a self-test; one that
// finds none says how many there may be, waits, and is opened when others have gone.
func TestSocketsLeaveDescriptorsForTheRest(t *testing.T) {
	s := openAt(t, at127(2))
	const limit = 2 * keptDescriptors
	limitDescriptors(t, limit)
	open := func() (*Receiver, error) {
		return Listen(ReceiverOptions{Group: netip.MustParseAddrPort("239.1.1.1:30000")}, lo)
	}
	var last *Receiver
	for {
		r, err := open()
		if err != nil {
			if !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), "the limit is 256, and 128 of them are kept") {
				t.Fatal(err)
			}
			break
		}
		defer r.Close()
		last = r
	}
	if used := descriptorsInUse(t); used > limit-keptDescriptors+2 {
		t.Errorf("%d descriptors are in use", used)
	}
	if _, err := Open(s.Source()); !errors.Is(err, ErrPending) {
		t.Errorf("a sender: %v", err)
	}
	if p := s.Probe(t.Context()); p.Result != ProbeVerified {
		t.Errorf("the self-test finds no descriptor: %+v", p)
	}
	last.Close()
	r, err := open()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// descriptorsInUse counts them, with that of the folder that it reads.
func descriptorsInUse(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestHalfOfFewDescriptorsIsKept(t *testing.T) {
	for limit, want := range map[int]int{0: 128, 64: 32, 256: 128, 1024: 128} {
		if got := keptOf(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}

func TestTheDescriptorsThatAreNeededAreNamed(t *testing.T) {
	for _, c := range []struct {
		sockets, limit int
		want           string
	}{
		{4000, 1024, "4128 file descriptors are needed for these rules, 4000 of them for sockets, and the limit is 1024"},
		{4000, 4128, ""},
		{1, 64, "129 file descriptors are needed"},
		{0, 64, ""},
		{4000, 0, ""},
	} {
		if got := DescriptorShortage(c.sockets, c.limit); !strings.HasPrefix(got, c.want) || got != "" && c.want == "" {
			t.Errorf("%d sockets of %d: %q", c.sockets, c.limit, got)
		}
	}
}
