package netlab

import (
	"sync"
	"time"
)

// patience is how long the helpers that wait will wait. Nothing takes as long;
// it is the time after which a test that is going to fail does.
const patience = 15 * time.Second

// waitOn waits until done, which is called with the condition's lock held, or
// reports false.
func waitOn(changed *sync.Cond, done func() bool) bool {
	late := false
	timer := time.AfterFunc(patience, func() {
		changed.L.Lock()
		defer changed.L.Unlock()
		late = true
		changed.Broadcast()
	})
	defer timer.Stop()
	changed.L.Lock()
	defer changed.L.Unlock()
	for !done() {
		if late {
			return false
		}
		changed.Wait()
	}
	return true
}
