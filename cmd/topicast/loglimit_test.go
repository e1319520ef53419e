package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/configs"
)

// limitedLog is a log as topicast run has it, and what was logged.
func limitedLog() (*slog.Logger, *recorder) {
	var out recorder
	return newLogger(&out, configs.Log{Level: slog.LevelDebug, Format: configs.FormatText}, new(slog.LevelVar)), &out
}

// However often something is said, it takes few lines a minute, other messages have their
// own, and how many were left out is told.
func TestLinesOfOneMessageAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := limitedLog()
		for i := range 1000 {
			log.With("rule", i).Warn("the same")
			log.Debug("a detail")
		}
		log.Info("another")
		time.Sleep(time.Second)
		synctest.Wait()
		count := func(what string) int { return strings.Count(out.String(), what) }
		if count(`msg="the same"`) != maxLines || count("msg=another") != 1 || count("a detail") != 1000 {
			t.Errorf("%d lines, %d of another, %d of debug", count(`msg="the same"`), count("msg=another"), count("a detail"))
		}
		if count(`level=WARN msg="lines were left out`) != 1 || count(`of="the same" lines=980`) != 1 {
			t.Errorf("not told:\n%s", out)
		}
		for range 30 { // a line a second: the rest of the minute is told at its end
			log.Warn("the same")
			time.Sleep(time.Second)
		}
		if count(`msg="the same"`) != maxLines || count("lines were left out") != 1 {
			t.Errorf("within the minute:\n%s", out)
		}
		time.Sleep(linesEvery)
		synctest.Wait()
		if count(`lines=30`) != 1 {
			t.Errorf("at the end of the minute:\n%s", out)
		}
		log.Warn("the same")
		if count(`msg="the same"`) != maxLines+1 {
			t.Error("the next minute has no lines")
		}
	})
}

// What changes again and again of one rule or interface is few lines, leaves those of others
// theirs, and the last of them is logged.
func TestLinesAboutOneInterfaceAreBoundedAndTheLastIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := limitedLog()
		count := func(what string) int { return strings.Count(out.String(), what) }
		for i := range 50 {
			log.Warn("pending", "interface", "iso0", "flap", i)
			time.Sleep(50 * time.Millisecond)
			log.Info("up", "interface", "iso0", "flap", i)
			time.Sleep(50 * time.Millisecond)
		}
		log.Info("up", "interface", "iso1")
		if count("msg=up interface=iso1") != 1 {
			t.Errorf("another interface has no line:\n%s", out)
		}
		time.Sleep(linesEvery)
		synctest.Wait()
		// The first time that lines were left out is told while it goes on, with the last then.
		if pending, up := count("msg=pending"), count("msg=up interface=iso0"); pending > maxSame+1 || pending < maxSame || up > maxSame+2 || up < maxSame || count("lines were left out") != 4 {
			t.Errorf("%d and %d lines:\n%s", pending, up, out)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var last string
		for _, line := range lines {
			if strings.Contains(line, "interface=iso0") {
				last = line
			}
		}
		if !strings.Contains(last, "msg=up interface=iso0 flap=49") {
			t.Errorf("the last line is not the last state:\n%s", out)
		}
		log.Warn("pending", "interface", "iso0", "flap", 50)
		if count("msg=pending interface=iso0 flap=50") != 1 {
			t.Error("the next minute has no lines")
		}
	})
}

// Messages that the other side makes up are few lines too, and take little memory.
func TestMessagesThatAreMadeUpAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := limitedLog()
		for i := range 100 * maxMessages {
			log.Warn(fmt.Sprint("made up ", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n > maxMessages+maxLines+1 || !strings.Contains(out.String(), `of="of other messages"`) {
			t.Errorf("%d lines", n)
		}
	})
}
