package harness

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"topicast/internal/lab/netlab"
)

// RunFlags are the flags of a program whose runs fill a table, some at a time.
type RunFlags struct {
	Only     string
	Quick    bool
	Markdown bool
	Parallel int
	Logs     string
	Protocol Protocol // that topicast speaks
}

// RunUsage is what the flags say of themselves where the programs differ.
type RunUsage struct {
	What     string // the runs, such as faults
	Only     string // what stands after "* stands for anything"
	Quick    string // what stands after "everything shorter"
	Parallel string // what stands after the defaults

	AtOnce, Most int // how many at a time with --quick, and how many at most
}

// Flags defines the flags.
func (o *RunFlags) Flags(f *flag.FlagSet, u RunUsage) {
	f.StringVar(&o.Only, "only", "", fmt.Sprintf("the `names` of the %s to run, parted by commas; * stands for anything%s", u.What, u.Only))
	f.BoolVar(&o.Quick, "quick", false, fmt.Sprintf("everything shorter, and %d %s at a time%s", u.AtOnce, u.What, u.Quick))
	f.BoolVar(&o.Markdown, "markdown", false, "print the table in Markdown")
	f.IntVar(&o.Parallel, "parallel", 0, fmt.Sprintf("how many %s at a time, 1 to %d; 0: 1, or %d with --quick%s", u.What, u.Most, u.AtOnce, u.Parallel))
	ProtocolFlag(f, &o.Protocol)
	f.StringVar(&o.Logs, "keep-logs", "", "the `folder` for what topicast and mosquitto printed, one file each")
}

// Check is to be called when they have been read.
func (o *RunFlags) Check(u RunUsage) error {
	atOnce := 1
	if o.Quick {
		atOnce = u.AtOnce
	}
	o.Parallel = cmp.Or(o.Parallel, atOnce)
	return Range("parallel", o.Parallel, 1, u.Most)
}

// RunAll makes the runs, so many at a time, and returns their rows in order.
func RunAll[R Row, S any](p *Program, parallel int, runs []S, name func(S) string, run func(S) R) []R {
	rows := make([]R, len(runs))
	free := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i, s := range runs {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			rows[i] = run(s)
			p.Say("%d of %d: %s: %s", i+1, len(runs), name(s), Verdict(rows[i]))
		})
	}
	all.Wait()
	return rows
}

// A LoggedProcess is a process with what it is called in the logs that are kept.
type LoggedProcess struct {
	Name string
	*netlab.Process
}

// KeepLogs writes what the processes of a run printed, one file each; dir is empty where
// that was not asked for.
func (p *Program) KeepLogs(dir, run string, processes []LoggedProcess) {
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.Say("--keep-logs: %v", err)
		return
	}
	for _, l := range processes {
		name := strings.ReplaceAll(run, "/", "-") + "-" + l.Name + ".log"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(l.Output()), 0o644); err != nil {
			p.Say("--keep-logs: %v", err)
		}
	}
}
