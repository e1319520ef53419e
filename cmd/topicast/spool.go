package main

import (
	"context"
	"log/slog"

	"topicast/bridge"
	"topicast/bridge/spool"
	"topicast/configs"
)

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

// closeSpool writes what the spool was handed last, and waits no longer for a disk that
// hangs than until late.
func closeSpool(s bridge.Spool, late <-chan struct{}, log *slog.Logger) {
	if s.On == nil {
		return
	}
	closed := make(chan error, 1)
	go func() { closed <- s.On.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			log.Error("cannot close the spool", "dir", s.Dir, "err", err)
		}
	case <-late:
		log.Error("the disk is too slow to close the spool before the end: what it has not taken of send rules stays with the broker, what it has not taken of receive rules is lost",
			"dir", s.Dir, "messages", s.On.Undecided())
	}
}
