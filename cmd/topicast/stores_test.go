package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"topicast/bridge"
	"topicast/bridge/spool"
	"topicast/configs"
	"topicast/internal/lab/fake"
)

// A start that is told to end does not wait for the spool's disk: here for another process
// to let go of the folder.
func TestAStartThatIsToldToEndDoesNotWaitForTheDisk(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c := configs.Spool{Dir: t.TempDir(), MaxSize: 1 << 20}
	first := openSpool(t.Context(), c, log)
	defer first.On.Close()
	told, stop := context.WithCancel(t.Context())
	stop()
	second := openSpool(told, c, log)
	if err := second.On.Err(); err == nil || errors.Is(err, spool.ErrInUse) {
		t.Errorf("it waited until it knew that %v", err)
	}
	closeSpool(second, make(chan struct{}), log) // that is not waited for either
	// It finds out later, and ends, before the folder is gone.
	fake.WaitFor(t, "the end of its wait", func() bool { return errors.Is(second.On.Err(), spool.ErrInUse) })
	_ = second.On.Close() // as it was told already
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
