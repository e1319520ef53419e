package main

import (
	"context"
	"log/slog"

	"topicast/bridge"
	"topicast/bridge/deadletter"
	"topicast/bridge/lastsent"
	"topicast/bridge/spool"
	"topicast/configs"
)

// stores are what is on disk of a bridge.
type stores struct {
	spool       bridge.Spool
	lastSent    *lastsent.Store
	deadLetters *deadletter.File // messages that were given up; nil: they are not kept
}

// openStores opens those that cfg asks for.
func openStores(ctx context.Context, cfg *configs.Config, log *slog.Logger) stores {
	s := stores{spool: openSpool(ctx, cfg.Spool, log), lastSent: lastsent.Open(lastsent.Options{Dir: cfg.StateDir(), Logger: log})}
	if path := cfg.DeadLetters(); path != "" {
		s.deadLetters = deadletter.Open(path, log)
	}
	return s
}

// openSpool opens the spool that c asks for. Where that cannot be now, what cannot go on
// waits in memory until it can. It waits for a disk that hangs only until ctx ends.
func openSpool(ctx context.Context, c configs.Spool, log *slog.Logger) bridge.Spool {
	s := bridge.Spool{Dir: c.Dir, Size: int64(c.MaxSize), MaxAge: c.MaxAge}
	if c.Dir == "" {
		return s
	}
	if s.On, s.Err = spool.Open(spool.Options{Dir: c.Dir, MaxSize: s.Size, Logger: log, Stop: ctx.Done()}); s.Err != nil {
		log.Error("no spool; what cannot go on waits in memory, unacknowledged", "err", s.Err)
		return s
	}
	if s.On.Err() == nil { // else it has said so
		log.Info("spool", "dir", c.Dir, "messages", s.On.Len(), "max_size", s.Size)
	}
	return s
}

// close writes what they were handed last, and waits for a disk that hangs hardly longer than until late.
func (s stores) close(late <-chan struct{}, log *slog.Logger) {
	closeSpool(s.spool, late, log)
	if !endsBefore(late, s.lastSent.Close) {
		log.Warn("the disk is too slow to keep what was last sent before the end; retained messages may be sent again at the next start")
	}
	if s.deadLetters != nil {
		s.deadLetters.Close()
	}
}

// closeSpool writes what the spool was handed last, and waits no longer for a disk that
// hangs than until late.
func closeSpool(s bridge.Spool, late <-chan struct{}, log *slog.Logger) {
	if s.On == nil {
		return
	}
	var err error
	switch {
	case !endsBefore(late, func() { err = s.On.Close() }):
		log.Error("the disk is too slow to close the spool before the end: what it has not taken of send rules stays with the broker, what it has not taken of receive rules is lost",
			"dir", s.Dir, "messages", s.On.Undecided())
	case err != nil:
		log.Error("cannot close the spool", "dir", s.Dir, "err", err)
	}
}

// endsBefore reports whether f returns before late.
func endsBefore(late <-chan struct{}, f func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
		return true
	case <-late:
		return false
	}
}
