package multicast

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"topicast/internal/lab/netlab"
)

// watcher gathers what Watch tells on a host, as a caller would.
type watcher struct {
	t    *testing.T
	hold sync.Mutex // held: the caller is busy, and messages pile up

	mu    sync.Mutex
	all   Change
	waits bool // for hold, with a change of before
	stale bool // that one is not to be taken
	news  chan struct{}
	ended chan error
	stop  func()
}

func watchOn(t *testing.T, h *netlab.Host, buffer int) *watcher {
	t.Helper()
	w := &watcher{t: t, news: make(chan struct{}, 1), ended: make(chan error, 1)}
	ctx, cancel := contextFor(t)
	go func() {
		w.ended <- h.Do(func() error { return watch(ctx, buffer, w.changed) })
	}()
	w.stop = func() {
		cancel()
		if err := <-w.ended; errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	t.Cleanup(w.stop)
	if first := w.await("the beginning", func(c Change) bool { return c.Overflow }); len(first.Deleted)+len(first.Returned) > 0 {
		t.Errorf("the first change is %+v", first)
	}
	w.forget()
	return w
}

func (w *watcher) changed(c Change) {
	w.mu.Lock()
	w.waits = true
	w.mu.Unlock()
	w.hold.Lock()
	defer w.hold.Unlock()
	w.mu.Lock()
	if w.stale {
		c = Change{}
	}
	w.waits, w.stale = false, false
	w.all.Deleted = append(w.all.Deleted, c.Deleted...)
	w.all.Returned = append(w.all.Returned, c.Returned...)
	w.all.Routes = w.all.Routes || c.Routes
	w.all.Overflow = w.all.Overflow || c.Overflow
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// await waits until what has been told since forget satisfies done.
func (w *watcher) await(what string, done func(Change) bool) Change {
	w.t.Helper()
	ctx, cancel := contextFor(w.t)
	defer cancel()
	for {
		w.mu.Lock()
		c := w.all
		w.mu.Unlock()
		if done(c) {
			return c
		}
		select {
		case <-w.news:
		case err := <-w.ended:
			w.ended <- err
			w.t.Fatalf("%s: Watch ended: %v; told %+v", what, err, c)
		case <-ctx.Done():
			w.t.Fatalf("%s: told %+v", what, c)
		}
	}
}

func (w *watcher) forget() {
	w.mu.Lock()
	w.all = Change{}
	w.mu.Unlock()
}

// missing makes changes, and so many others that all is missed: nobody reads meanwhile, for
// the caller is busy. What is told since forget is of after that.
func (w *watcher) missing(h *netlab.Host, change func()) {
	w.t.Helper()
	other := func() {
		h.Addr("priv0", "10.0.0.77/24")
		h.DelAddr("priv0", "10.0.0.77/24")
	}
	w.hold.Lock()
	defer w.hold.Unlock()
	ctx, cancel := contextFor(w.t)
	defer cancel()
	for waits := false; !waits; {
		other()
		w.mu.Lock()
		waits = w.waits
		w.mu.Unlock()
		if ctx.Err() != nil {
			w.t.Fatal("the caller of Watch is told nothing")
		}
	}
	for range 50 {
		other()
	}
	change()
	w.mu.Lock()
	w.all, w.stale = Change{}, true
	w.mu.Unlock()
}

// sync waits for a deletion made now, and so for all that was before it.
func (w *watcher) sync(h *netlab.Host) Change {
	w.t.Helper()
	var index int
	if err := h.Do(func() error {
		mark := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "mark"}}
		if err := netlink.LinkAdd(mark); err != nil {
			return err
		}
		index = mark.Index
		return netlink.LinkDel(mark)
	}); err != nil {
		w.t.Fatal(err)
	}
	c := w.await("sync", func(c Change) bool { return slices.Contains(c.Deleted, index) })
	c.Deleted = slices.DeleteFunc(slices.Clone(c.Deleted), func(i int) bool { return i == index })
	return c
}

func TestWatchTellsOfWhatTheInterfacesNoLongerShow(t *testing.T) {
	rig := netlab.NewRig(t)
	w := watchOn(t, rig.GW, watchBuffer)
	index := rig.GW.Index("iso0")

	for _, busy := range []bool{false, true} {
		name := fmt.Sprintf("the caller is busy: %t", busy)
		during := func(change func()) {
			if busy {
				w.hold.Lock()
				defer w.hold.Unlock()
			}
			change()
		}
		w.forget()
		during(func() { rig.Dev.Down("eth0"); rig.Dev.Up("eth0") })
		w.await(name+": carrier returns", func(c Change) bool { return slices.Contains(c.Returned, index) })
		w.forget()
		during(func() { rig.GW.Down("iso0"); rig.GW.Up("iso0") })
		w.await(name+": set up again", func(c Change) bool { return slices.Contains(c.Returned, index) })
		w.forget()
		during(func() { rig.GW.Delete("iso0"); remake(t, rig.GW, "iso0", index, rig.Dev) })
		if c := w.sync(rig.GW); !slices.Equal(c.Deleted, []int{index}) || c.Overflow {
			t.Errorf("%s: recreated: %+v", name, c)
		}
	}

	// What is none of it: other changes, and a port that leaves its bridge, of
	// which the kernel says RTM_DELLINK too.
	priv := rig.GW.Index("priv0")
	w.sync(rig.GW)
	w.forget()
	rig.GW.Addr("priv0", "10.0.0.77/24")
	rig.GW.DelAddr("priv0", "10.0.0.77/24")
	rig.GW.MTU("priv0", 1400)
	if live := rig.GW.Rename("priv0", "priv1"); !live {
		w.sync(rig.GW)
		w.forget() // that it was down for a moment
	}
	if err := rig.GW.Do(func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		link, err := netlink.LinkByName("priv1")
		return errors.Join(err, netlink.LinkAdd(br), netlink.LinkSetMaster(link, br), netlink.LinkSetNoMaster(link))
	}); err != nil {
		t.Fatal(err)
	}
	if c := w.sync(rig.GW); slices.Contains(c.Deleted, priv) || slices.Contains(c.Returned, priv) || c.Overflow {
		t.Errorf("nothing to tell of %d: %+v", priv, c)
	}
}

// Routes for groups are told of, and rules of policy routing; not the other routes, of
// which a router has thousands come and go.
func TestWatchTellsOfRoutesForGroups(t *testing.T) {
	rig := netlab.NewRig(t)
	w := watchOn(t, rig.GW, watchBuffer)
	routes := func(c Change) bool { return c.Routes }
	for _, c := range []string{
		"route add local 239.10.0.1 dev iso0 table local", "route del local 239.10.0.1 dev iso0 table local",
		"route add 224.0.0.0/4 via 172.17.0.50", "route del 224.0.0.0/4",
		"-6 route add local ff15::1 dev iso0 table local", "-6 route del local ff15::1 dev iso0 table local",
		"rule add from 172.17.0.1 lookup 100", "rule del from 172.17.0.1 lookup 100", "-6 rule add from fd17::1 lookup 100",
	} {
		w.sync(rig.GW)
		w.forget()
		ip(t, rig.GW, c)
		w.await(c, routes)
	}
	w.sync(rig.GW)
	w.forget()
	ip(t, rig.GW, "route add 198.51.100.0/24 via 172.17.0.50", "-6 route add 2001:db8::/32 via fd17::50", "route replace default via 172.17.0.50", "-6 route add fe80:1::/32 via fd17::50 dev iso0")
	if c := w.sync(rig.GW); c.Routes {
		t.Error("told of routes that are not for groups")
	}
}

// More than its socket can hold is said, not lost, with what became of the interfaces
// meanwhile; and it goes on.
func TestWatchTellsWhenItMissedSomething(t *testing.T) {
	rig := netlab.NewRig(t)
	w := watchOn(t, rig.GW, 4096)
	rig.GW.Add("bridge", "br0")
	index, gone := rig.GW.Index("iso0"), rig.GW.Index("br0")
	for more := 20; ; more-- {
		w.missing(rig.GW, func() {})
		c := w.await("a flood", func(c Change) bool { return c.Overflow })
		if len(c.Deleted)+len(c.Returned) == 0 {
			break
		}
		if more == 0 { // at first the carriers of new interfaces may just have come
			t.Errorf("nothing happened to the interfaces: %+v", c)
			break
		}
	}
	w.forget()
	rig.Dev.Down("eth0")
	rig.Dev.Up("eth0")
	w.await("after it", func(c Change) bool { return slices.Contains(c.Returned, index) })

	w.missing(rig.GW, func() {
		rig.Dev.Down("eth0")
		rig.Dev.Up("eth0")
		rig.GW.Delete("br0")
	})
	c := w.await("what was missed", func(c Change) bool { return slices.Contains(c.Deleted, gone) && slices.Contains(c.Returned, index) })
	if !c.Overflow {
		t.Errorf("told of all: %+v; want that there was too much", c)
	}
	w.forget()
	rig.GW.Delete("iso0")
	w.await("after it", func(c Change) bool { return slices.Contains(c.Deleted, index) || c.Overflow })
}

// What is joined shows until its interface is gone, also where there is another one with
// its index.
func TestJoinsShowOnWhichInterfacesAGroupIsJoined(t *testing.T) {
	rig := netlab.NewRig(t)
	index := rig.GW.Index("iso0")
	for _, group := range []string{"239.1.2.3:5000", "[ff15::1:203]:5000"} {
		listenOn(t, rig.GW, netip.MustParseAddrPort(group), "iso0")
	}
	check := func(when string, want bool) {
		t.Helper()
		var j Joins
		if err := rig.GW.Do(func() (err error) { j, err = ReadJoins(); return err }); err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{"239.1.2.3", "ff15::1:203"} {
			g := netip.MustParseAddr(group)
			if j.Has(index, g) != want || j.Has(rig.GW.Index("priv0"), g) {
				t.Errorf("%s: %s is joined on iso0: %t, want %t, and on priv0: %t", when, g, j.Has(index, g), want, j.Has(rig.GW.Index("priv0"), g))
			}
		}
	}
	check("joined", true)
	rig.GW.Delete("iso0")
	remake(t, rig.GW, "iso0", index, rig.Dev)
	check("on another interface of that index", false)
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := Watch(ctx, func(c Change) {
		calls++
		if !c.Overflow {
			t.Errorf("the first change is %+v", c)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
