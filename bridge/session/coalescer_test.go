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
	_ = p.mqtt.flush() // what is left to the connection's own goroutine
	p.mqtt.lock()
	defer p.mqtt.unlock()
	if *origin != (counter{publishers * turns, 0}) {
		t.Errorf("%d published, %d lost", origin.published, origin.lost)
	}
	if n := p.conn.writes; n > publishers*turns/10 {
		t.Errorf("%d writes of %d messages", n, publishers*turns)
	}
}

// Who publishes alone soon stops yielding to others, but for now and then.
func TestAPublisherAloneSeldomYields(t *testing.T) {
	var c writeCoalescer
	yielded := 0
	for range 100 * maxSkip {
		if c.skip.Load() == 0 {
			yielded++
		}
		if !c.elect() {
			t.Fatal("nobody writes")
		}
	}
	if yielded > 110 || yielded < 90 {
		t.Errorf("yielded %d times in %d writes", yielded, 100*maxSkip)
	}
}
