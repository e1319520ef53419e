package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Of one message the log has maxLines in linesEvery; the rest are counted, and that is said
// a second after the first of them, and again when the time is over. So no broker, network or
// web client, and no list of thousands of rules, fills a disk or buries what else is said.
// What only log.level debug shows is not bounded.
const (
	maxLines   = 20
	linesEvery = time.Minute

	// maxMessages is how many messages are told apart. Nearly all are constants of the
	// program; what is beyond counts as one.
	maxMessages = 512
)

// limited is a handler with that bound.
type limited struct {
	slog.Handler
	lines *lineCounts
}

func newLimited(h slog.Handler) limited {
	return limited{h, &lineCounts{of: make(map[string]*lineCount)}}
}

func (h limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{h.Handler.WithAttrs(attrs), h.lines}
}

func (h limited) WithGroup(name string) slog.Handler {
	return limited{h.Handler.WithGroup(name), h.lines}
}

func (h limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && !h.lines.allows(r, h.Handler) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

type lineCounts struct {
	mu sync.Mutex
	of map[string]*lineCount // by message
}

// lineCount is how many lines there were of a message since began.
type lineCount struct {
	began   time.Time
	n       int
	leftOut int  // that was not said yet
	said    bool // that some were left out
}

// allows counts a line, and reports whether it is to be logged. If not, how many were left out is
// logged later, by h.
func (l *lineCounts) allows(r slog.Record, h slog.Handler) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	message := r.Message
	c := l.of[message]
	if c == nil && len(l.of) >= maxMessages {
		message = "of other messages"
		c = l.of[message]
	}
	if c == nil {
		c = new(lineCount)
		l.of[message] = c
	}
	now := time.Now()
	if now.Sub(c.began) >= linesEvery && c.leftOut == 0 {
		*c = lineCount{began: now}
	}
	if c.n++; c.n <= maxLines {
		return true
	}
	if c.leftOut++; c.leftOut == 1 {
		wait := time.Second
		if c.said {
			wait = max(time.Second, c.began.Add(linesEvery).Sub(now))
		}
		time.AfterFunc(wait, func() { l.logLeftOut(c, message, r.Level, h) })
	}
	return false
}

// logLeftOut says how many lines were left out.
func (l *lineCounts) logLeftOut(c *lineCount, message string, level slog.Level, h slog.Handler) {
	l.mu.Lock()
	n := c.leftOut
	c.leftOut, c.said = 0, true
	l.mu.Unlock()
	r := slog.NewRecord(time.Now(), level, "lines were left out; /status and /metrics have what they are about", 0)
	r.Add("of", message, "lines", n)
	_ = h.Handle(context.Background(), r) // as slog does
}
