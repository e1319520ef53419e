package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// While the spool cannot be used it is tried again: after retryFirst, then after
// twice as long each time, up to retryMost, or as long as a try takes.
const (
	retryFirst = time.Second
	retryMost  = 3 * time.Second
)

// noteOutcome takes note of how a try to use the folder has ended. It logs each cause once,
// and the end of it.
func (s *Spool) noteOutcome(err error) {
	was := s.Err()
	if err == nil {
		s.trouble.Store(nil)
		if s.pause = 0; was != nil {
			s.next = time.Now().Add(lookEvery)
			s.uses.Add(1)
			s.log.Info("the spool can be used again; what waits in memory goes there", "dir", s.dir, "messages", s.Len())
		}
		return
	}
	// What is removed meanwhile may have been tried, too: that does not put off the next try.
	if now := time.Now(); was == nil || !now.Before(s.next) {
		s.pause = max(min(max(2*s.pause, s.retry), retryMost), now.Sub(s.began))
		s.next = now.Add(s.pause)
	}
	err = fmt.Errorf("%w; %s", err, openHint(err))
	if was == nil || was.Error() != err.Error() {
		s.log.Error("the spool cannot be used, and is tried again until it can; what cannot go on waits in memory, unacknowledged",
			"dir", s.dir, "err", err)
	}
	s.trouble.Store(&err)
}

// openHint says what to do about an error.
func openHint(err error) string {
	switch {
	case errors.Is(err, ErrInUse):
		return "stop it, or give this one another folder"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "let this user write there, or name another folder"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room on its disk, or name a folder on another one"
	case errors.Is(err, syscall.ENOTDIR):
		return "name a folder"
	}
	return "look at the disk's health, or name another folder"
}
