package spool

import (
	"fmt"
	"time"
)

// While the spool cannot be used it is tried again: after retryFirst, then after
// twice as long each time, up to retryMost.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// tell takes note of how a try to use the file has ended. It logs each cause once,
// and the end of it.
func (s *Spool) tell(err error) {
	was := s.Err()
	if err == nil {
		s.trouble.Store(nil)
		if s.pause = 0; was != nil {
			s.uses.Add(1)
			s.log.Info("the spool can be used again; what waits in memory goes there", "file", s.path, "messages", s.Len())
		}
		return
	}
	s.pause = min(max(2*s.pause, s.retry), retryMost)
	err = fmt.Errorf("%w; %s", err, openHint(err))
	if was == nil || was.Error() != err.Error() {
		s.log.Error("the spool cannot be used, and is tried again until it can; what cannot go on waits in memory, unacknowledged",
			"file", s.path, "err", err)
	}
	s.trouble.Store(&err)
}
