package main

import (
	"log/slog"

	"topicast/bridge/lastsent"
)

// closeLastSent keeps what was last sent for the next start, and waits no longer for a
// disk that hangs than until late.
func closeLastSent(s *lastsent.Store, late <-chan struct{}, log *slog.Logger) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	select {
	case <-closed:
	case <-late:
		log.Warn("the disk is too slow to keep what was last sent before the end; retained messages may be sent again at the next start")
	}
}
