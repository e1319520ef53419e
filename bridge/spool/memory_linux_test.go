package spool

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

func init() { children["memory"] = memory }

// What is on disk must not count as memory: neither while it is written and
// read, nor afterwards.
func TestMemoryStaysFlat(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	if out, err := childCommand(t, "memory", t.TempDir()).Output(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func memory(dir string) error {
	const total, payload = 256 << 20, 1000
	debug.SetGCPercent(50)
	s, err := Open(Options{Dir: dir, MaxSize: 2 * total})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("rule")
	start, peak := resident("VmRSS"), 0
	window := make(chan struct{}, 1000)
	var all sync.WaitGroup
	r := record(strings.Repeat("x", payload))
	for range total / payload {
		window <- struct{}{}
		all.Add(1)
		q.Append(r, func(error) { <-window; all.Done() })
	}
	all.Wait()
	written := resident("VmRSS")
	if q.Len() != total/payload {
		return fmt.Errorf("%d records", q.Len())
	}
	dst := make([]Record, 256)
	for q.Len() > 0 {
		n, _ := q.Front(dst, 0)
		q.Remove(n)
		peak = max(peak, resident("RssFile"))
	}
	clear(dst)
	for folderSize(dir) > 4<<20 { // the disk follows
		time.Sleep(10 * time.Millisecond)
	}
	mapped := resident("RssFile")
	runtime.GC()
	debug.FreeOSMemory()
	end := resident("VmRSS")
	fmt.Printf("resident: %d KiB at the start, %d written, %d drained, %d at most; of files %d while draining, %d then\n",
		start, written, end, resident("VmHWM"), peak, mapped)
	if end-start > 10<<10 {
		return fmt.Errorf("%d KiB more than at the start", end-start)
	}
	if grown := resident("VmHWM") - start; grown > 48<<10 {
		return fmt.Errorf("%d KiB more than at the start for some time", grown)
	}
	return nil
}

func folderSize(dir string) (sum int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// resident is a line of /proc/self/status, in KiB.
func resident(name string) (kib int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			fmt.Sscan(value, &kib)
		}
	}
	return kib
}
