package multicast

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the kernel has no room for a neighbour for waits as for a full queue; what it refuses
// as invalid for another reason never leaves.
func TestWhatFindsNoRoomForANeighbourWaits(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ipv6     bool
		overflow string // the refused that the kernel counts
		silent   bool   // it does not tell
		asked    bool   // it was asked before
		refuse   map[string]syscall.Errno
		segment  int
		want     outcome
		is       error
	}{
		{name: "a full table", ipv6: true, overflow: "c", refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{2, nil, "a b"}, is: ErrNoNeighbour},
		{name: "and it was asked before", ipv6: true, asked: true, overflow: "c", refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{2, nil, "a b"}, is: ErrNoNeighbour},
		{name: "a run", ipv6: true, overflow: "a+b+c+d", segment: 1400, refuse: map[string]syscall.Errno{"a+b+c+d": syscall.EINVAL}, want: outcome{0, nil, ""}, is: ErrNoNeighbour},
		{name: "one that is refused for another reason", ipv6: true, refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{4, []int{2}, "a b d"}},
		{name: "and it was asked before ", ipv6: true, asked: true, refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{4, []int{2}, "a b d"}},
		{name: "the kernel does not tell", ipv6: true, silent: true, overflow: "c", refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{4, []int{2}, "a b d"}},
		{name: "over IPv4, where that is ENOBUFS", overflow: "c", refuse: map[string]syscall.Errno{"c": syscall.EINVAL}, want: outcome{4, []int{2}, "a b d"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := uint64(7)
			k := &kernel{refuse: func(p string) error {
				if strings.Contains(tt.overflow, p) && tt.refuse[p] != 0 {
					count++
				}
				if err := tt.refuse[p]; err != 0 {
					return err
				}
				return nil
			}}
			s := k.sender(tt.segment)
			s.neighbours = neighbours{ipv6: tt.ipv6, overflows: func(ipv6 bool) (uint64, bool) {
				if ipv6 != tt.ipv6 {
					t.Error("the other table is asked for")
				}
				return count, !tt.silent
			}}
			if tt.asked {
				s.NeighboursFull()
			}
			got, err := sendAll(s, k, batchOf("a b c d"))
			if d := cmp.Diff(tt.want, got); d != "" || !errors.Is(err, tt.is) || (err == nil) != (tt.is == nil) {
				t.Errorf("%v, want -, got +:\n%s", err, d)
			}
			if tt.is != nil && (!errors.Is(err, ErrNoBuffer) || !strings.Contains(err.Error(), "gc_thresh3")) {
				t.Errorf("%v", err)
			}
			if s.SegmentationError() != nil {
				t.Error("runs are not tried again")
			}
		})
	}
}

// Whether there was no room is since it was last asked.
func TestWhetherThereWasRoomForNeighboursIsSinceTheLastQuestion(t *testing.T) {
	count := uint64(3)
	s := (&kernel{}).sender(0)
	s.neighbours.overflows = func(bool) (uint64, bool) { return count, true }
	for i, want := range []bool{false, false, true, false} {
		if i == 2 {
			count++
		}
		if got := s.NeighboursFull(); got != want {
			t.Errorf("question %d: %v", i, got)
		}
	}
}
