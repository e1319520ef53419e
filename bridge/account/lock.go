package account

import (
	"context"
	"sync"
)

// LockBefore locks mu, and reports whether it could before ctx ended. It waits for the lock, and does
// not look again and again: a lock that is taken for most of the time would be missed each time. While
// mu stays locked for ever so does the goroutine that waits for it.
func LockBefore(ctx context.Context, mu *sync.Mutex) bool {
	if mu.TryLock() {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	locked := make(chan struct{})
	go func() {
		mu.Lock()
		select {
		case locked <- struct{}{}: // it is the caller's now
		case <-ctx.Done():
			mu.Unlock()
		}
	}()
	select {
	case <-locked:
		return true
	case <-ctx.Done():
		return false
	}
}
