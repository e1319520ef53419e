package bridge

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
)

// The end, in the order of the functions below. The docs promise that the program ends
// within EndLimit, whatever hangs: a service manager or a container engine kills what
// takes longer. So each step has its time, counted from the beginning of the end:
//
//	      1 quiet    no more messages are taken, nor datagrams
//	      2 drained  what waits for a busy socket leaves, and the broker acknowledges
//	 5 s  3 spill    the rest goes to the disk
//	 6 s  4          the session leaves the broker
//	8.6 s 5 close    sockets are closed, goroutines end, what is left is counted
//	 9 s             Run returns; the caller closes the spool, and the process ends
//
// A step that hangs is left behind, as the process is about to end. What is not done by
// then is said.

// EndLimit is how long the program may take to end, from when it is told to.
const EndLimit = 10 * time.Second

// endTimes are when the steps are to be over.
type endTimes struct {
	drained, spilled, left, closed time.Duration
	linger                         time.Duration // how long a step may overrun before it is left behind
}

var theEnd = endTimes{
	drained: 5 * time.Second,
	spilled: 6 * time.Second,
	left:    6*time.Second + session.LeaveTimeout + 100*time.Millisecond,
	closed:  9 * time.Second,
	linger:  50 * time.Millisecond,
}

// ending is an end under way.
type ending struct {
	*Bridge
	endTimes
	began   time.Time
	dropped [account.NumReasons]uint64 // the counts when the end began
	hanging []string                   // steps that were left behind
}

func (b *Bridge) newEnding() *ending {
	return &ending{Bridge: b, endTimes: b.options.end, began: time.Now(), dropped: b.counts()}
}

// begin runs f on a goroutine; done is closed when it returns, unless it hangs.
func begin(f func()) (done <-chan struct{}) {
	c := make(chan struct{})
	go func() {
		defer close(c)
		f()
	}()
	return c
}

// by ends when a step is to be over.
func (e *ending) by(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.Background(), e.began.Add(limit))
}

// wait waits until a step is over, or its time is. what it does is for the log.
func (e *ending) wait(what string, limit time.Duration, done <-chan struct{}) {
	t := time.NewTimer(max(time.Until(e.began.Add(limit)), 0) + e.linger)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		e.hanging = append(e.hanging, what)
	}
}

// finish is steps 1 to 3. When it returns, the session is to leave the broker.
func (e *ending) finish(readers *sync.WaitGroup) {
	until, cancel := e.by(e.drained)
	defer cancel()
	messages := begin(e.session.Drain)
	datagrams := begin(func() {
		e.attach(nil) // no reload from here on
		e.receive.StopReceivers(readers)
	})
	e.wait("the last batch of messages", e.drained, messages)
	e.wait("the last datagrams", e.drained, datagrams)
	e.wait("outstanding requests", e.drained, begin(func() { e.send.EndRequests(until) }))
	e.wait("sending", e.drained, begin(func() { e.waitDrained(until) }))
	e.wait("spilling", e.spilled, begin(func() { e.spill(e.spilled) }))
	e.receive.End()
}

// waitDrained waits until nothing waits for a busy socket or for the broker any more.
func (b *Bridge) waitDrained(ctx context.Context) {
	if !b.send.Drained(ctx) {
		return
	}
	if b.options.Spool.On != nil && !b.receive.Connected() {
		return // the disk takes what the broker has not
	}
	b.settled.Wait(ctx, func() bool { return b.session.Outstanding() == 0 })
}

// spill hands to the disk what the end has not waited for.
func (e *ending) spill(limit time.Duration) {
	ctx, cancel := e.by(limit)
	defer cancel()
	usable := func() bool { return e.options.Spool.spoolErr() == nil }
	e.send.SpillAll(ctx, usable)
	e.receive.SpillAll(ctx, usable)
}

// close is step 5: nothing sends or publishes any more.
func (e *ending) close(background, drains, readers *sync.WaitGroup) {
	until, cancel := e.by(e.closed + e.linger/2) // so that where a step above hangs the other sockets have time to close
	defer cancel()
	ended := begin(background.Wait)
	e.wait("the last datagrams", e.closed, begin(func() { e.receive.StopReceivers(readers) }))
	e.wait("the last of it to the disk", e.closed, begin(func() { e.spill(e.closed) }))
	var stuck atomic.Bool
	e.wait("the sockets", e.closed, begin(func() {
		stuck.Store(!e.send.Stop(until))
		if !stuck.Load() {
			drains.Wait() // none begins any more
		}
	}))
	if stuck.Load() {
		e.hanging = append(e.hanging, "the sockets")
	}
	e.wait("the work in the background", e.closed, ended)
}

// report says what was not done in time. waiting is how many messages of send rules
// waited in memory when the session had left; unacknowledged, how many the broker had not
// acknowledged when it was to leave.
func (e *ending) report(waiting, unacknowledged int) {
	var attrs []any
	if waiting > 0 {
		attrs = append(attrs, "waiting", waiting)
	}
	if unacknowledged > 0 {
		attrs = append(attrs, "unacknowledged", unacknowledged)
	}
	if on := e.options.Spool.On; on != nil && on.Undecided() > 0 {
		attrs = append(attrs, "on_the_way_to_disk", on.Undecided())
	}
	for i, n := range e.counts() {
		if why := account.Reason(i); n > e.dropped[i] && !why.Filtered() {
			attrs = append(attrs, why.String(), n-e.dropped[i])
		}
	}
	if len(e.hanging) > 0 {
		attrs = append(attrs, "hangs", strings.Join(slices.Compact(e.hanging), ", "))
	}
	if attrs != nil {
		e.log.Warn("the end has left something undone: the broker repeats what stays unacknowledged, what is in the spool leaves after the next start, the rest is dropped and counted",
			attrs...)
	}
}

// sleep sleeps, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
