package account_test

import (
	"context"
	"sync/atomic"
	"testing"

	"topicast/bridge/account"
)

func TestASignalMissesNoChange(t *testing.T) {
	var s account.Signal
	s.Notify() // nobody waits
	var n atomic.Int64
	const last = 10_000
	go func() {
		for range last {
			n.Add(1)
			s.Notify()
		}
	}()
	if !s.Wait(t.Context(), func() bool { return n.Load() == last }) {
		t.Error("ended before it was done")
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if new(account.Signal).Wait(ctx, func() bool { return false }) {
		t.Error("reports that it is done")
	}
}
