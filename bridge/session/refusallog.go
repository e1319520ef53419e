package session

import (
	"log/slog"
	"sync"
	"time"
)

// refusalLog says which messages a broker of MQTT 5 refuses: one line a minute for each reason, with
// how many there were since the last.
type refusalLog struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[ReasonCode]*refusalsSaid
}

type refusalsSaid struct {
	at   time.Time
	more int // since then
}

const refusalsEvery = time.Minute

// add takes note of a message that was refused. Any goroutine may call it.
func (l *refusalLog) add(r notAccepted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.said[r.code]
	if s == nil {
		if l.said == nil {
			l.said = make(map[ReasonCode]*refusalsSaid)
		}
		s = new(refusalsSaid)
		l.said[r.code] = s
	}
	s.more++
	now := time.Now()
	if !s.at.IsZero() && now.Sub(s.at) < refusalsEvery {
		return
	}
	text := "the broker does not take a message: check what it allows this user to publish, and how much"
	if r.later {
		text = "the broker does not take a message for now, and gets it again later: check how much it allows this user to publish, and set broker.max_rate to that"
	}
	l.log.Warn(text, "topic", cut(r.topic), "count", s.more, "reason", because(r.code, r.reason))
	s.at, s.more = now, 0
}
