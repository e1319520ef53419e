package main

import (
	"context"
	"log/slog"

	"topicast/bridge"
	"topicast/bridge/deadletter"
	"topicast/bridge/lastsent"
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

// close closes them, and waits for a disk that hangs hardly longer than until late.
func (s stores) close(late <-chan struct{}, log *slog.Logger) {
	closeSpool(s.spool, late, log)
	closeLastSent(s.lastSent, late, log)
	if s.deadLetters != nil {
		s.deadLetters.Close()
	}
}
