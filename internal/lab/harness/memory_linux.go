package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// A MemoryGroup is a control group with a limit of memory: what is in it and needs more
// is killed.
type MemoryGroup struct{ dir string }

// memoryHierarchies are where the kernel shows the groups: that of cgroup v2, and that of v1.
var memoryHierarchies = []struct{ root, limit, swap string }{
	{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
}

// NewMemoryGroup makes one. It is an error where the machine does not allow it.
func NewMemoryGroup(bytes int) (*MemoryGroup, error) {
	var errs []error
	for _, h := range memoryHierarchies {
		dir, err := os.MkdirTemp(h.root, "topicast-lab-")
		if err == nil {
			if err = write(filepath.Join(dir, h.limit), bytes); err == nil {
				swap := 0
				if h.swap != "memory.swap.max" { // v1's is of both together
					swap = bytes
				}
				_ = write(filepath.Join(dir, h.swap), swap) // a kernel may count no swap
				return &MemoryGroup{dir}, nil
			}
			_ = os.Remove(dir)
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no memory control group: %w", errors.Join(errs...))
}

// Add puts a process into the group. What it has already is not counted.
func (g *MemoryGroup) Add(pid int) error { return write(filepath.Join(g.dir, "cgroup.procs"), pid) }

// Close removes the group. It waits for what is in it to end.
func (g *MemoryGroup) Close() (err error) {
	Until(context.Background(), Patience, func() bool { err = os.Remove(g.dir); return err == nil })
	return err
}

// write writes to a file of the kernel's; it makes none, where there is no such.
func write(file string, n int) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(n))
	return errors.Join(err, f.Close())
}
