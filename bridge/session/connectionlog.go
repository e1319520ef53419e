package session

import (
	"context"
	"log/slog"
	"time"
)

// What is logged of the connection with the broker. A broker can be away for weeks,
// and connections can be made and lost again every second for as long: each change
// is to be seen, and none of that may fill the log.
//
//   - A cause (of a connect that failed, of a loss) is logged the first time, and
//     again when the line before it told something else; so is a connection.
//   - After a few lines that had been written before, there are pauses between such
//     lines: of a minute, then of two, four and so on up to a day.
//   - Where there are pauses, a connection is logged when it has held for 30 s and the
//     pause is over, or when it has held for an hour. What was logged as connected is logged as lost.
//   - What stays as it is is logged again each day.
//   - Of causes that are new a few are logged within an hour, for the other side may
//     make up another each time. One line tells of the others: how many ends had one,
//     and that /status has the last.
//   - When a connection has held for an hour, all of this is forgotten.
//
// All that is not logged is for log.level debug, and counted: attempts and losses are
// in the lines that follow.
const (
	freeRepeats = 6 // lines, written before, until there are pauses
	minPause    = time.Minute
	maxPause    = 24 * time.Hour
	forgetAfter = time.Hour // how long a connection lasts until what was before it is forgotten
	maxCauses   = 16        // others count as one: a cause may be another each time
	maxFresh    = 6         // causes that are new within an hour; others count as one
)

// connectionLog is of Run's goroutine.
type connectionLog struct {
	log *slog.Logger

	lines   map[string]bool // what was told
	repeats int             // lines that told it again
	fresh   int             // causes that were new since hour
	hour    time.Time       // when the first of them was told
	others  int             // ends with a cause that counts as one of the others
	pausing bool            // it was told that there are pauses
	last    string          // what the last line told
	at      time.Time       // when

	attempts int       // connects that failed since there was a connection
	losses   int       // connections that were lost since one has held
	since    time.Time // when the first of them was

	begun  time.Time // the connection
	logged bool      // that there is one
	args   []any     // of that line
}

// what the lines are about: a prefix of the cause.
const (
	aboutAttempt    = "connect: "
	aboutLoss       = "lost: "
	aboutConnection = "connected"
	aboutOthers     = "others"
)

// failed tells of a connect that failed.
func (c *connectionLog) failed(err error) {
	c.attempts++
	args := append([]any{"err", errorText(err)}, several("attempts", c.attempts)...)
	about := c.about(aboutAttempt + cut(causeOf(err)))
	args = c.further(about, args)
	if c.due(about).After(time.Now()) {
		c.log.Debug("still cannot connect", args...)
		return
	}
	c.write(slog.LevelWarn, about, "cannot connect", args)
}

// connected tells of a connection.
func (c *connectionLog) connected(conn *connection) {
	c.begun, c.logged = time.Now(), false
	c.args = append([]any{"broker", conn.broker, "session_present", conn.present}, several("attempts", c.attempts+1)...)
	c.args = append(c.args, c.lost()...)
	c.args = append(c.args, conn.granted()...)
	c.attempts = 0
	if c.repeats < freeRepeats && !c.due(aboutConnection).After(c.begun) {
		c.lasted()
		return
	}
	c.log.Debug("connected", c.args...)
}

// next is when the connection has lasted for so long that lasted is to be called.
func (c *connectionLog) next() time.Time {
	if c.logged {
		return c.begun.Add(forgetAfter)
	}
	at := c.due(aboutConnection)
	if soonest := c.begun.Add(stableLife); at.Before(soonest) {
		return soonest
	}
	if latest := c.begun.Add(forgetAfter); at.After(latest) {
		return latest
	}
	return at
}

// lasted logs a connection that has lasted; over reports whether all is forgotten.
func (c *connectionLog) lasted() (over bool) {
	if !c.logged {
		c.logged = true
		c.write(slog.LevelInfo, aboutConnection, "connected", c.args)
		return false
	}
	clear(c.lines)
	c.repeats, c.pausing, c.losses, c.fresh, c.others = 0, false, 0, 0, 0
	return true
}

// ended tells of the end of the connection.
func (c *connectionLog) ended(broker string, err error) {
	if c.losses++; c.losses == 1 {
		c.since = time.Now()
	}
	args := append([]any{"broker", broker, "err", errorText(err)}, c.lost()...)
	about := c.about(aboutLoss + cut(causeOf(err)))
	args = c.further(about, args)
	if !c.logged && c.due(about).After(time.Now()) {
		c.log.Debug("connection lost", args...)
		return
	}
	text := "connection lost"
	if c.repeats >= freeRepeats-1 && !c.pausing {
		c.pausing = true
		text = "connection lost again and again; it is not logged each time from here on"
	}
	c.write(slog.LevelWarn, about, text, args)
}

// warn tells of something that failed on the connection, and can fail on each.
func (c *connectionLog) warn(text string, args ...any) {
	if about := c.about(text); c.due(about).After(time.Now()) {
		c.log.Debug(text, args...)
	} else {
		c.write(slog.LevelWarn, about, text, args)
	}
}

// lost says how many connections were lost, and since when, where that was more
// than once.
func (c *connectionLog) lost() []any {
	if c.losses < 2 {
		return nil
	}
	return []any{"losses", c.losses, "since", c.since.UTC().Format(time.RFC3339)}
}

// about is what a line is about, so that there are not too many of it.
func (c *connectionLog) about(what string) string {
	switch {
	case c.lines[what], what == aboutConnection:
		return what
	case time.Since(c.hour) >= forgetAfter:
		c.hour, c.fresh = time.Now(), 0
	}
	if len(c.lines) >= maxCauses || c.fresh >= maxFresh {
		return aboutOthers
	}
	c.fresh++
	return what
}

// further adds to a line that stands for the other causes how many there were.
func (c *connectionLog) further(about string, args []any) []any {
	if about != aboutOthers {
		return args
	}
	c.others++
	return append(args, "other_causes", c.others, "note", "more causes than are logged; /status has the last one")
}

// due is when a line may be written at the earliest.
func (c *connectionLog) due(about string) time.Time {
	switch {
	case !c.lines[about]:
		return time.Time{}
	case about == c.last:
		return c.at.Add(maxPause)
	case c.repeats < freeRepeats:
		return time.Time{}
	}
	return c.at.Add(min(minPause<<min(c.repeats-freeRepeats, 12), maxPause))
}

func (c *connectionLog) write(level slog.Level, about, text string, args []any) {
	c.log.Log(context.Background(), level, text, args...)
	if c.lines[about] {
		c.repeats++
	}
	c.lines[about], c.last, c.at = true, about, time.Now()
}

// several is a key of a log line for a number of times; once goes without saying.
func several(key string, n int) []any {
	if n > 1 {
		return []any{key, n}
	}
	return nil
}
