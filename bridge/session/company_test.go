package session

import (
	"runtime"
	"sync"
	"testing"
)

// Publishers who are all ready to run leave together what they have.
func TestPublishersWriteTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that they run one after the other
	p, origin := newPublishing(t), &counter{}
	batch := publications(1, 0, origin)
	const publishers, turns = 100, 20
	for range turns {
		var all sync.WaitGroup
		start := make(chan struct{})
		for range publishers {
			all.Go(func() {
				<-start
				p.PublishBatch(batch)
			})
		}
		runtime.Gosched() // they wait
		close(start)
		all.Wait()
	}
	_ = p.lane.flush() // what is left to the lane's own goroutine
	p.lane.lock()
	defer p.lane.unlock()
	if *origin != (counter{publishers * turns, 0}) {
		t.Errorf("%d published, %d lost", origin.published, origin.lost)
	}
	if n := p.conn.writes; n > publishers*turns/10 {
		t.Errorf("%d writes of %d messages", n, publishers*turns)
	}
}

// Who publishes alone soon stops asking for company, but for now and then.
func TestAPublisherAloneDoesNotWaitForCompany(t *testing.T) {
	var c company
	asked := 0
	for range 100 * maxAlone {
		if c.alone.Load() == 0 {
			asked++
		}
		if !c.await() {
			t.Fatal("nobody writes")
		}
	}
	if asked > 110 || asked < 90 {
		t.Errorf("asked %d times in %d writes", asked, 100*maxAlone)
	}
}
