package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func init() { children["power"] = powerCuts }

// The power goes: what the disk has by then, which is less than what the system has, is
// copied and opened. All that was said to be safe is there, in order, and nothing counts as
// lost.
func TestWhatWasSafeSurvivesAPowerCut(t *testing.T) {
	needsLoop(t)
	inMountNamespace(t, "power")
}

func powerCuts(dir string) error {
	disk, mounted, err := mountFile(dir)
	if err != nil {
		return err
	}
	defer run("umount", mounted)
	copied, after := filepath.Join(dir, "copy"), filepath.Join(dir, "after")
	if err := os.Mkdir(after, 0o700); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, filepath.Join(mounted, "spool"))
	cmd.Env = append(os.Environ(), childVar+"=append")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var safe atomic.Int64
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); safe.Add(1) {
		}
	}()
	for cut := range 6 {
		from := safe.Load()
		if err := await("records", func() bool { return safe.Load() > from+300 }); err != nil {
			return err
		}
		_ = cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(20 * time.Millisecond) // what it waits for in the system ends
		said := safe.Load()
		err := copyFile(copied, disk)
		_ = cmd.Process.Signal(syscall.SIGCONT)
		if err == nil {
			err = afterCut(copied, after, int(said))
		}
		if err != nil {
			return fmt.Errorf("cut %d, %d safe: %w", cut, said, err)
		}
	}
	return nil
}

// afterCut opens what a disk had.
func afterCut(disk, dir string, safe int) error {
	if err := run("mount", "-o", "loop", disk, dir); err != nil {
		return err
	}
	defer run("umount", dir)
	log := &logs{}
	s, err := Open(Options{Dir: filepath.Join(dir, "spool"), MaxSize: 256 << 20, Logger: log.logger()})
	if err != nil {
		return err
	}
	defer s.Close()
	q := s.Queue("count")
	if q.Len() < safe || strings.Contains(log.String(), "ERROR") {
		return fmt.Errorf("%d records, log: %s", q.Len(), log)
	}
	if err := inSequence(q, 0, q.Len()-1); err != nil {
		return err
	}
	for busy := s.Queue("busy"); busy.Len() > 0; {
		n, lost := busy.Front(make([]Record, 100), 0)
		if lost != (Lost{}) {
			return fmt.Errorf("lost %+v", lost)
		}
		busy.Remove(n)
	}
	return nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
