package bridge

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"topicast/bridge/multicast"
)

// How often the interfaces are looked at where nothing told of a change: often
// while something waits, for what it waits for may be no interface (a port that
// is taken, a rule of the firewall); else as a safety net.
const (
	lookPending  = time.Second
	lookSettled  = 30 * time.Second
	kickPause    = 50 * time.Millisecond // after a look: a change seldom comes alone, and the first must not wait
	countEvery   = time.Second
	summaryEvery = time.Minute
)

// watch keeps bindings and memberships in step with the interfaces.
func (b *Bridge) watch(ctx context.Context) {
	look, count, sum := time.NewTimer(lookPending), time.NewTicker(countEvery), time.NewTicker(summaryEvery)
	defer look.Stop()
	defer count.Stop()
	defer sum.Stop()
	var told [numReasons]uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			for _, m := range b.memberships {
				m.countDrops()
			}
			continue
		case <-sum.C:
			told = b.summarize(told)
			continue
		case <-b.changed:
		case <-look.C:
		}
		b.refresh(ctx)
		if sleep(ctx, kickPause) != nil {
			return
		}
		look.Reset(b.nextLook())
	}
}

func (b *Bridge) nextLook() time.Duration {
	if slices.ContainsFunc(b.bindings, (*binding).pending) || slices.ContainsFunc(b.memberships, (*membership).pending) {
		return lookPending
	}
	return lookSettled
}

// news gathers what was told of the interfaces between two looks.
type news struct {
	mu      sync.Mutex
	changes multicast.Change
}

// hearNews takes a change in, and asks for a look.
func (b *Bridge) hearNews(c multicast.Change) {
	b.news.mu.Lock()
	b.news.changes.Deleted = append(b.news.changes.Deleted, c.Deleted...)
	b.news.changes.Returned = append(b.news.changes.Returned, c.Returned...)
	b.news.changes.Overflow = b.news.changes.Overflow || c.Overflow
	b.news.mu.Unlock()
	b.kick()
}

// take hands the news over.
func (n *news) take() multicast.Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.changes
	n.changes = multicast.Change{}
	return c
}

// probesAtOnce bounds the self-tests under way: each joins a group and may wait
// for its own copy.
const probesAtOnce = 32

// refresh looks at the interfaces once and holds every binding and every
// membership against them.
func (b *Bridge) refresh(ctx context.Context) {
	changes := b.news.take() // before the look, so that none is missed
	interfaces, err := b.options.network.Interfaces()
	if err != nil {
		b.log.Error("cannot list the interfaces; everything stays as it is", "err", err)
		b.hearNews(changes)
		return
	}
	b.rejoin(interfaces, changes)
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for _, o := range b.bindings {
		g.Go(func() error {
			o.refresh(ctx, interfaces)
			return nil
		})
	}
	g.Wait()
}

// rejoin holds the memberships against the interfaces.
func (b *Bridge) rejoin(interfaces []multicast.Interface, changes multicast.Change) {
	type found struct {
		on  multicast.Interface
		err error
	}
	byWant := make(map[string]found)
	for _, m := range b.memberships {
		f, known := byWant[m.want]
		if !known {
			f.on, f.err = multicast.ResolveInterface(m.want, interfaces)
			byWant[m.want] = f
		}
		m.release(f.on, f.err, changes)
	}
	for _, m := range b.memberships {
		m.refresh(byWant[m.want].on, byWant[m.want].err, changes)
	}
	for _, r := range b.receives {
		r.tellState()
	}
}
