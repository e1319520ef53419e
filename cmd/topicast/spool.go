package main

import (
	"log/slog"

	"topicast/bridge"
	"topicast/bridge/spool"
	"topicast/configs"
)

// openSpool opens the spool that c asks for. Where that cannot be, the bridge does
// without: what cannot go on then waits in memory.
func openSpool(c configs.Spool, log *slog.Logger) bridge.Spool {
	s := bridge.Spool{Dir: c.Dir, Size: int64(c.MaxSize), MaxAge: c.MaxAge}
	if c.Dir == "" {
		return s
	}
	if s.On, s.Err = spool.Open(spool.Options{Dir: c.Dir, MaxSize: s.Size, Logger: log}); s.Err != nil {
		log.Error("no spool; what cannot go on waits in memory, unacknowledged, until the next start finds it in order", "err", s.Err)
		return s
	}
	log.Info("spool", "dir", c.Dir, "messages", s.On.Len(), "max_size", s.Size)
	return s
}

// closeSpool writes what the spool was handed last.
func closeSpool(s bridge.Spool, log *slog.Logger) {
	if s.On == nil {
		return
	}
	if err := s.On.Close(); err != nil {
		log.Error("cannot close the spool", "dir", s.Dir, "err", err)
	}
}
