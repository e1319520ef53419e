package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Of one message the log has maxLines in linesEvery, and of one about the same rule and interface
// maxSame; the rest are counted, and that is said a second after the first of them, and again
// when the time is over, with the last line about each rule and interface that changed so often,
// unless another message about it came later. So an interface that flaps is a few lines, and the
// last of them is how it is. So no broker, network or
// web client, and no list of thousands of rules, fills a disk or buries what else is said.
// What only log.level debug shows is not bounded.
const (
	maxLines   = 20
	maxSame    = 4
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
	return limited{h, &lineCounts{of: make(map[string]*lineCount), latest: make(map[string]string)}}
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
	mu     sync.Mutex
	of     map[string]*lineCount // by message
	latest map[string]string     // the last message about a subject that more than one line was about
}

// lineCount is how many lines there were of a message since began.
type lineCount struct {
	began   time.Time
	n       int                    // that were logged
	same    map[string]int         // of them, by their subjects
	last    map[string]leftOutLine // of a subject, that was left out for maxSame, and not said yet
	leftOut int                    // that was not said yet
	said    bool                   // that some were left out
}

// leftOutLine is a line with the handler that is to have it.
type leftOutLine struct {
	slog.Record
	to slog.Handler
}

// note notes the last message about a subject, once more than one line was about it.
func (l *lineCounts) note(about, message string, again bool) {
	if about == "" || !again && l.latest[about] == "" {
		return
	}
	if len(l.latest) >= maxMessages && l.latest[about] == "" {
		clear(l.latest)
	}
	l.latest[about] = message
}

// subject is the rule and the interface that a line is about; "": neither.
func subject(r slog.Record) string {
	var rule, on string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "rule":
			rule = a.Value.String()
		case "interface":
			on = a.Value.String()
		}
		return true
	})
	if rule == "" && on == "" {
		return ""
	}
	return rule + "\x00" + on
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
	about := subject(r)
	l.note(about, message, c.same[about] > 0)
	if c.n < maxLines && (about == "" || c.same[about] < maxSame) {
		c.n++
		if about != "" {
			if c.same == nil {
				c.same = make(map[string]int)
			}
			c.same[about]++
		}
		return true
	}
	if about != "" && c.same[about] > 0 { // of few: no more than maxLines were logged
		if c.last == nil {
			c.last = make(map[string]leftOutLine)
		}
		c.last[about] = leftOutLine{r.Clone(), h}
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
	var last []leftOutLine
	for about, line := range c.last {
		if l.latest[about] == message {
			last = append(last, line)
		}
	}
	c.leftOut, c.said, c.last = 0, true, nil
	l.mu.Unlock()
	r := slog.NewRecord(time.Now(), level, "lines were left out; /status and /metrics have what they are about", 0)
	r.Add("of", message, "lines", n)
	_ = h.Handle(context.Background(), r) // as slog does
	slices.SortFunc(last, func(a, b leftOutLine) int { return a.Time.Compare(b.Time) })
	for _, line := range last {
		_ = line.to.Handle(context.Background(), line.Record)
	}
}
