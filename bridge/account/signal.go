package account

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Signal wakes those that wait until something is done. The zero Signal is ready.
type Signal struct {
	waiting atomic.Int32

	mu   sync.Mutex
	next chan struct{} // closed by the next Notify
}

// Notify is called when something has changed that somebody may wait for. It costs a look
// while nobody does, and may be called with locks held.
func (s *Signal) Notify() {
	if s.waiting.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// Wait waits until done reports true, and reports whether it does before ctx ends. done is
// called at once, and again after each Notify.
func (s *Signal) Wait(ctx context.Context, done func() bool) bool {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for {
		s.mu.Lock()
		if s.next == nil {
			s.next = make(chan struct{})
		}
		next := s.next // before done looks, so that no change is missed
		s.mu.Unlock()
		if done() {
			return true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false
		}
	}
}
