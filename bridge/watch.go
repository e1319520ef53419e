package bridge

import (
	"context"
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
)

// How often the interfaces are looked at where nothing told of a change: often
// while something waits, for what it waits for may be no interface (a port that
// is taken, a rule of the firewall); else as a safety net.
const (
	lookPending  = time.Second
	lookSettled  = 30 * time.Second
	lookPause    = 50 * time.Millisecond // after a look: a change seldom comes alone, and the first must not wait
	countEvery   = time.Second
	summaryEvery = time.Minute
	expireEvery  = 10 * time.Second
)

// watch looks after what is old, stuck or to be counted, and shows that the bridge lives. It
// waits for no socket and no self-test: those are followInterfaces'.
func (b *Bridge) watch(ctx context.Context) {
	count, sum, expire := time.NewTicker(countEvery), time.NewTicker(summaryEvery), time.NewTicker(expireEvery)
	defer count.Stop()
	defer sum.Stop()
	defer expire.Stop()
	var reported [account.NumReasons]uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			b.updateHeartbeat(time.Now())
			b.checkSpool()
			b.send.RequestRedelivery(time.Now(), b.session.Repeat)
			b.send.SpillAgain()
			b.receive.SpillAgain()
			b.send.FindStuck(time.Now())
			b.send.Inspect()
			at := account.MomentOf(time.Now())
			b.send.NoteDrops(at)
			b.receive.NoteDrops(at)
			b.receive.CountDrops()
			b.receive.WatchSilence(time.Now())
			b.receive.WatchLegs(time.Now())
		case <-b.send.RoomAgain():
			b.send.RequestRedelivery(time.Now(), b.session.Repeat)
		case <-expire.C:
			b.send.ExpireOld()
			b.receive.ExpireOld()
		case <-sum.C:
			reported = b.summarize(reported)
			b.logSilence(time.Now())
		}
	}
}

// followInterfaces keeps bindings and memberships in step with the interfaces.
func (b *Bridge) followInterfaces(ctx context.Context) {
	defer b.endMembers()
	look := time.NewTimer(lookPending)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.lookRequested:
		case <-look.C:
		}
		b.followRoutes(ctx)
		b.reconcile(ctx)
		b.followHost(ctx)
		if sleep(ctx, lookPause) != nil {
			return
		}
		look.Reset(b.nextLook())
	}
}

// stallTimeout is how long the bridge may show no life: longer than anything takes that it
// does between two signs of it.
const stallTimeout = 30 * time.Second

// updateHeartbeat is called while watch goes round. The send path has to be idle, or to
// have finished something since, and so has the look at the interfaces, so that one that
// hangs shows too; a look takes a minute where a firewall has thousands of self-tests wait.
// And no look may have waited in vain for a send.
func (b *Bridge) updateHeartbeat(now time.Time) {
	sent, sending := b.send.Progress()
	refreshed, looking := b.send.Refreshed(), !b.lookMu.TryLock()
	if !looking {
		b.lookMu.Unlock()
	}
	if sending && sent == b.lastFinished || looking && refreshed == b.lastRefreshed || b.send.Hangs() {
		return
	}
	b.lastFinished, b.lastRefreshed = sent, refreshed
	b.heartbeat.Store(int64(now.Sub(b.started)))
}

// Alive reports whether the bridge is at work: not whether all is well, which is for
// Status, but whether it goes round at all. It is for a watchdog.
func (b *Bridge) Alive() bool { return b.alive(time.Now()) }

// alive goes by the monotonic part of now alone: the time of day is stepped.
func (b *Bridge) alive(now time.Time) bool {
	return now.Sub(b.started)-time.Duration(b.heartbeat.Load()) < stallTimeout
}

func (b *Bridge) nextLook() time.Duration {
	if b.unlisted.Load() || b.instancesDue || b.send.Pending() || b.receive.Pending() {
		return lookPending
	}
	return lookSettled
}

// linkChanges gathers the changes of the interfaces between two looks.
type linkChanges struct {
	mu      sync.Mutex
	changes multicast.Change
}

// onLinkChange takes a change in, and asks for a look.
func (b *Bridge) onLinkChange(c multicast.Change) {
	b.linkChanges.add(c)
	if c.Routes || c.Overflow {
		b.routesChanged.Store(true)
	}
	b.routesDue.Store(true)
	b.requestLook()
}

func (n *linkChanges) add(c multicast.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changes.Deleted = append(n.changes.Deleted, c.Deleted...)
	n.changes.Returned = append(n.changes.Returned, c.Returned...)
	n.changes.Overflow = n.changes.Overflow || c.Overflow
}

// take hands the changes over.
func (n *linkChanges) take() multicast.Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.changes
	n.changes = multicast.Change{}
	return c
}

// reconcile looks at the interfaces once and holds every binding and every
// membership against them.
func (b *Bridge) reconcile(ctx context.Context) {
	b.lookMu.Lock()
	defer b.lookMu.Unlock()
	changes := b.linkChanges.take() // before the look, so that none is missed
	interfaces, err := b.options.network.interfaces()
	if err != nil { // for want of file descriptors or memory, which may last
		if !b.unlisted.Swap(true) {
			b.log.Error("cannot list the interfaces; everything stays as it is, until that is tried again with success", "err", err)
		}
		b.linkChanges.add(changes)
		return
	}
	b.unlisted.Store(false)
	b.noteInterfaces(interfaces)
	if _, short := b.current().shortage(); short != "" {
		b.send.Reconcile(ctx, interfaces) // needs few sockets, and would be left without
	}
	b.receive.Rejoin(interfaces, changes)
	b.send.Reconcile(ctx, interfaces)
	b.members.follow(b.current().table.Send(), interfaces, b.options.network.watchMembers, b.log.Warn)
}
