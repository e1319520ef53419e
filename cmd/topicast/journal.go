package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// journal is a stderr that systemd connects with its journal. Each line begins with
// its priority (sd-daemon(3)), which the journal takes off again: so that
// "journalctl -p warning" shows what it should. The journal has the time of each line;
// log lines bear none of their own.
type journal struct{ w io.Writer }

// The priorities of syslog(3) that are used, as sd-daemon(3) writes them.
const (
	prefixError   = "<3>"
	prefixWarning = "<4>"
	prefixInfo    = "<6>"
	prefixDebug   = "<7>"
)

// forJournal returns a journal if stderr is connected with one, else stderr:
// JOURNAL_STREAM has the device and inode of the socket (systemd.exec(5)).
func forJournal(stderr *os.File) io.Writer {
	if stream := os.Getenv("JOURNAL_STREAM"); stream != "" && stream == deviceAndInode(stderr) {
		return journal{stderr}
	}
	return stderr
}

// Write writes what a command prints in one call, by what that begins with.
func (j journal) Write(p []byte) (int, error) {
	prefix := prefixInfo
	switch {
	case bytes.HasPrefix(p, []byte("topicast: error: ")):
		prefix = prefixError
	case bytes.HasPrefix(p, []byte("topicast: warning: ")):
		prefix = prefixWarning
	}
	var out []byte
	for line := range bytes.Lines(p) {
		out = append(append(out, prefix...), line...)
	}
	if _, err := j.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// journalHandler puts the priority of a record before its line. The handlers of
// package slog write a record in one call, and no newline within it.
type journalHandler struct {
	slog.Handler // writes to line
	line         *journalLine
}

type journalLine struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	buffer []byte
}

func (l *journalLine) Write(p []byte) (int, error) {
	l.buffer = append(append(l.buffer[:0], l.prefix...), p...)
	if _, err := l.w.Write(l.buffer); err != nil {
		return 0, err
	}
	return len(p), nil
}

func newJournalHandler(j journal, make func(io.Writer) slog.Handler) slog.Handler {
	line := &journalLine{w: j.w}
	return journalHandler{make(line), line}
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.line.prefix = prefixError
	case r.Level >= slog.LevelWarn:
		h.line.prefix = prefixWarning
	case r.Level >= slog.LevelInfo:
		h.line.prefix = prefixInfo
	default:
		h.line.prefix = prefixDebug
	}
	r.Time = time.Time{} // the handlers of package slog leave it out then
	return h.Handler.Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.line}
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.line}
}
