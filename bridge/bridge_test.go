package bridge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
)

func TestTheEndWaitsForABusySocketButNotForEver(t *testing.T) {
	for name, c := range map[string]struct {
		heals bool
		takes time.Duration
	}{
		"the socket has room again": {true, time.Second},
		"it never has":              {false, stopTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
				b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
				s := n.socket()
				s.allow(0, nil)
				<-s.free
				b.path.handle([]session.Message{message("t", "1", 0), message("t", "2", 1)})
				began := time.Now()
				if c.heals {
					time.AfterFunc(time.Second, func() { s.allow(2, nil) })
				}
				b.emptied(context.Background())
				if took := time.Since(began).Round(10 * time.Millisecond); took != c.takes {
					t.Errorf("took %v, want %v", took, c.takes)
				}
				if c.heals && len(s.took()) != 2 {
					t.Errorf("sent %q", s.took())
				}
			})
		})
	}
}

func TestTheEndDoesNotWaitForASourceThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBridge(t, &fakeNetwork{}, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		b.path.handle([]session.Message{message("t", "1", 1)})
		began := time.Now()
		b.emptied(context.Background())
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}
