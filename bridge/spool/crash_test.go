package spool

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

func init() {
	children["append"] = appendForEver
	children["hold"] = hold
}

// appendForEver appends numbers to two queues, removes some, and prints the
// number of each append that is said to be safe.
func appendForEver(dir string) error {
	s, err := Open(Options{Dir: dir, MaxSize: 256 << 20})
	if err != nil {
		return err
	}
	start := s.Queue("count").next
	for i := start; ; i++ {
		safe := func(err error) {
			if err == nil {
				fmt.Println(i)
			}
		}
		for {
			if _, ok := s.Queue("count").Append(record(fmt.Sprint(i)), safe); ok {
				break
			}
			time.Sleep(time.Millisecond) // too much waits for the disk
		}
		s.Queue("busy").Append(record(strings.Repeat("x", int(i%3000))), nil)
		if i%64 == 0 {
			n, _ := s.Queue("busy").Front(make([]Record, 64), 0)
			s.Queue("busy").Remove(n)
		}
		if i%1000 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func hold(dir string) error {
	s, err := Open(Options{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		return err
	}
	if err := appendAll(s.Queue("rule"), record("0")); err != nil {
		return err
	}
	fmt.Println("open")
	bufio.NewReader(os.Stdin).ReadString('\n')
	return s.Close()
}

func TestWhatWasSafeSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	safe := 0
	for range 8 {
		cmd := childCommand(t, "append", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		until := 500 + rand.IntN(2000)
		for seen := 0; lines.Scan(); seen++ {
			safe++
			if seen == until {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		log := &logs{}
		s := open(t, Options{Dir: dir, MaxSize: 256 << 20, Logger: log.logger()})
		if s.Queue("count").Len() < safe {
			t.Fatalf("%d records were safe, %d are there", safe, s.Queue("count").Len())
		}
		safe = s.Queue("count").Len()
		closeNow(t, s)
		if got := log.String(); got != "" {
			t.Fatal(got)
		}
	}
	s := open(t, Options{Dir: dir, MaxSize: 256 << 20})
	for i, r := range drain(t, s.Queue("count"), 1000) {
		if string(r.Payload) != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, r.Payload)
		}
	}
	drain(t, s.Queue("busy"), 100)
	if s.Len() != 0 || s.Bytes() != 0 {
		t.Errorf("%d records of %d bytes left", s.Len(), s.Bytes())
	}
}

func TestASecondProcessIsToldThatTheSpoolIsInUse(t *testing.T) {
	dir := t.TempDir()
	cmd := childCommand(t, "hold", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	if err := openFails(dir, "another process has the spool open; stop it, or give this one another folder"); err != nil {
		t.Error(err)
	}
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20, retry: time.Millisecond})
	if !errors.Is(s.Err(), ErrInUse) || s.Len() != 0 || s.Uses() != 0 {
		t.Errorf("%v, %d records, %d uses", s.Err(), s.Len(), s.Uses())
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the spool to be taken over", func() bool { return s.Err() == nil })
	if s.Uses() == 0 {
		t.Error("nobody is told that it holds something now")
	}
	appendNow(t, s.Queue("rule"), record("1"))
	check(t, drain(t, s.Queue("rule"), 1), "0", "1")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 { // the lock, two files of states, a segment
		t.Errorf("folder holds %v, %v", entries, err)
	}
}
