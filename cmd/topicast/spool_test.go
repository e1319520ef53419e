package main

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"topicast/bridge"
	"topicast/bridge/spool"
	"topicast/configs"
)

// A program of 32 bits says how large its spool can be, and one of 64 has no limit
// that a configuration could reach.
func TestTheLargestSpoolOfAProgramIsSaid(t *testing.T) {
	const largest = 504 << 20
	if is := strconv.IntSize == 32; is != (spool.Largest == largest) || spool.Largest < largest {
		t.Errorf("with %d bits the largest is %d", strconv.IntSize, int64(spool.Largest))
	}
	for size, want := range map[configs.Size]string{
		largest:         "",
		largest + 1<<20: "a program of 32 bits cannot address a spool of 505MiB; it gets 504MiB",
		1 << 30:         "a program of 32 bits cannot address a spool of 1GiB; it gets 504MiB",
	} {
		got := ""
		for _, w := range examineSpool(configs.Spool{Dir: "/x", MaxSize: size}, largest) {
			got = w.err.Error()
			if w.path != "spool.max_size" || w.hint != "write 504MiB, or run the program of 64 bits" {
				t.Errorf("%s: %+v", size, w)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", size, got, want)
		}
	}
	if got := examineSpool(configs.Spool{MaxSize: 1 << 40}, largest); got != nil {
		t.Errorf("without a spool: %v", got)
	}
}

func TestADiskThatHangsKeepsNobodyFromTheEnd(t *testing.T) {
	s, err := spool.Open(spool.Options{Dir: t.TempDir(), MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	hangs, release := make(chan struct{}), make(chan struct{})
	s.Queue("a").Append(spool.Record{Topic: []byte("t")}, func(error) { // nothing is written while this lasts
		close(hangs)
		<-release
	})
	<-hangs
	for range 3 {
		s.Queue("a").Append(spool.Record{Topic: []byte("t")}, nil)
	}
	var log bytes.Buffer
	late := make(chan struct{})
	close(late)
	closeSpool(bridge.Spool{On: s, Dir: "dir"}, late, slog.New(slog.NewTextHandler(&log, nil)))
	if got := log.String(); !strings.Contains(got, "the disk is too slow") || !strings.Contains(got, "messages=3") {
		t.Errorf("said %q, want that three messages are not on disk", got)
	}
	close(release)
	_ = s.Close() // as it was told already
	if n := s.Undecided(); n != 0 {
		t.Errorf("%d are undecided", n)
	}
}
