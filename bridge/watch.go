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
	tidyEvery    = 10 * time.Second
)

// watch keeps bindings and memberships in step with the interfaces.
func (b *Bridge) watch(ctx context.Context) {
	look, count, sum, tidy := time.NewTimer(lookPending), time.NewTicker(countEvery), time.NewTicker(summaryEvery), time.NewTicker(tidyEvery)
	defer look.Stop()
	defer count.Stop()
	defer sum.Stop()
	defer tidy.Stop()
	var told [numReasons]uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			b.showLife()
			b.collect()
			for _, m := range b.parts().memberships {
				m.countDrops()
			}
			continue
		case now := <-tidy.C:
			b.tidy(now)
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

// lifeless is how long the bridge may show no life: longer than anything it does
// takes, a self-test on many sockets included.
const lifeless = 30 * time.Second

// showLife is called while watch goes round. The send path has to be idle, or to
// have finished something since, so that one that hangs shows too.
func (b *Bridge) showLife() {
	p := b.send
	idle := p.mu.TryLock()
	if idle {
		p.mu.Unlock()
	}
	if n := p.finished.Load(); idle || n != b.seen {
		b.seen = n
		b.beat.Store(time.Now().UnixNano())
	}
}

// Alive says whether the bridge is at work: not whether all is well, which is for
// Status, but whether it goes round at all. It is for a watchdog.
func (b *Bridge) Alive() bool {
	return time.Since(time.Unix(0, b.beat.Load())) < lifeless
}

// tidy lets go of what is too old on disk.
func (b *Bridge) tidy(now time.Time) {
	p := b.parts()
	for _, o := range p.bindings {
		o.tidy(now)
	}
	for _, d := range p.detours {
		d.tidy(now)
	}
	b.tidyOrphans(now)
}

func (b *Bridge) nextLook() time.Duration {
	p := b.parts()
	if slices.ContainsFunc(p.bindings, (*binding).pending) || slices.ContainsFunc(p.memberships, (*membership).pending) {
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
	b.looking.Lock()
	defer b.looking.Unlock()
	changes := b.news.take() // before the look, so that none is missed
	interfaces, err := b.options.network.Interfaces()
	if err != nil {
		b.log.Error("cannot list the interfaces; everything stays as it is", "err", err)
		b.hearNews(changes)
		return
	}
	p := b.parts()
	p.rejoin(interfaces, changes)
	rebind(ctx, p.bindings, interfaces)
}

// rebind holds bindings against the interfaces.
func rebind(ctx context.Context, bindings []*binding, interfaces []multicast.Interface) {
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for _, o := range bindings {
		g.Go(func() error {
			o.refresh(ctx, interfaces)
			return nil
		})
	}
	g.Wait()
}

// rejoin holds the memberships against the interfaces.
func (p *parts) rejoin(interfaces []multicast.Interface, changes multicast.Change) {
	type found struct {
		on  multicast.Interface
		err error
	}
	byWant := make(map[string]found)
	for _, m := range p.memberships {
		f, known := byWant[m.on]
		if !known {
			f.on, f.err = multicast.ResolveInterface(m.on, interfaces)
			byWant[m.on] = f
		}
		m.release(f.on, f.err, changes)
	}
	for _, m := range p.memberships {
		m.refresh(byWant[m.on].on, byWant[m.on].err, changes)
	}
	for _, r := range p.receives {
		r.tellState()
	}
}
