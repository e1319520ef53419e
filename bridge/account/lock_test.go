package account_test

import (
	"context"
	"sync"
	"testing"

	"topicast/bridge/account"
)

func TestLockBeforeTakesALockThatIsFreeOrBecomesFree(t *testing.T) {
	var mu sync.Mutex
	if !account.LockBefore(t.Context(), &mu) {
		t.Fatal("did not take a free lock")
	}
	got := make(chan bool)
	go func() { got <- account.LockBefore(t.Context(), &mu) }()
	mu.Unlock()
	if !<-got {
		t.Fatal("did not take a lock that was released")
	}
	if mu.TryLock() {
		t.Error("reports the lock as taken, and it is free")
	}
}

// Who has given up does not have the lock, and leaves it free for others once it is released.
func TestLockBeforeGivesUpWithItsContext(t *testing.T) {
	var mu sync.Mutex
	mu.Lock()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan bool)
	go func() { got <- account.LockBefore(ctx, &mu) }()
	cancel()
	if <-got {
		t.Fatal("took a lock that another holds")
	}
	mu.Unlock()
	mu.Lock() // hangs if the one that gave up keeps it
	if account.LockBefore(ctx, &mu) {
		t.Error("took a lock that another holds, after its context had ended")
	}
}
