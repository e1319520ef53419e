package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// rhythm has datagrams leave as far apart as they were captured, divided by speed. It counts
// from the first, so that lateness does not add up.
type rhythm struct {
	speed float64             // 0: without a pause
	sleep func(time.Duration) // the last of a pause; nil: time.Sleep
	long  func(time.Duration) // is told of a pause of longPause or more; nil: nobody is

	first, began time.Time
	due          time.Time
	backwards    int // packets that are before the one before
	last         time.Time
	late         lateness
}

// shortSleep is the last of a pause, which a sleep of the system is for. Go's timers go by
// milliseconds where nothing else runs (epoll_wait(2)), and come one or two too late.
const shortSleep = 3 * time.Millisecond

// longPause is one that would be taken for a program that hangs. Where a clock was set while a file was
// captured it may be of years.
const longPause = time.Minute

// wait waits until a datagram that was captured at a time is to leave. One that was captured
// before the first, or at a time that is not known, leaves at once.
func (r *rhythm) wait(ctx context.Context, at time.Time) error {
	now := time.Now()
	if r.began.IsZero() {
		r.first, r.last, r.began, r.due = at, at, now, now
	}
	if !at.IsZero() {
		if at.Before(r.last) {
			r.backwards++
		}
		r.last = at
	}
	if r.speed == 0 || at.IsZero() {
		r.due = now
		return ctx.Err()
	}
	// In floating point, for a file may be of years; it is exact to the microsecond for a week.
	r.due = r.began.Add(time.Duration(min(max(float64(at.Sub(r.first))/r.speed, 0), float64(1<<62))))
	if pause := r.due.Sub(now) - shortSleep; pause > 0 {
		if pause >= longPause && r.long != nil {
			r.long(pause)
		}
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	sleep := r.sleep
	if sleep == nil {
		sleep = time.Sleep
	}
	for left := time.Until(r.due); left > 0; left = time.Until(r.due) { // a signal ends a sleep before its time
		sleep(left)
	}
	return ctx.Err()
}

// left notes that the datagram has left.
func (r *rhythm) left() { r.late.add(time.Since(r.due)) }

const (
	lateStep  = 100 * time.Microsecond
	lateSteps = 1000
)

// lateness counts how late datagrams left, in steps of a tenth of a millisecond up to a tenth
// of a second.
type lateness struct {
	steps [lateSteps + 1]uint64
	n     uint64
	most  time.Duration
}

func (l *lateness) add(late time.Duration) {
	l.n++
	l.most = max(l.most, late)
	l.steps[min(max(late, 0)/lateStep, lateSteps)]++
}

// within is how late all but one in a hundred were at most, to the step.
func (l *lateness) within() time.Duration {
	left := l.n / 100
	for i := lateSteps; i > 0; i-- {
		if l.steps[i] > left {
			return min(time.Duration(i+1)*lateStep, l.most)
		}
		left -= l.steps[i]
	}
	return min(lateStep, l.most)
}

// Why a packet of a file is not sent.
const (
	notUDP = iota
	toHost
	otherGroup
	cutShort
	malformed
	unknownLink
	noSource
	reasonsToSkip
)

// skipped are the packets that were not sent, by reason.
type skipped [reasonsToSkip]int

var skippedTexts = [...]string{
	notUDP:      "no datagrams of UDP",
	toHost:      "to single hosts or broadcast addresses (--hosts sends them)",
	otherGroup:  "to other groups than --group",
	cutShort:    "cut short when they were captured (tcpdump -s 0 takes all)",
	malformed:   "malformed",
	unknownLink: "of a link that is not known",
	noSource:    "without a source here that is of their kind",
}

// sumUp tells what was sent, and what was not and why.
func (r *replayer) sumUp(out, errOut io.Writer) {
	if r.sent > 0 {
		text := fmt.Sprintf("%s sent to %s in %.3f s", count(r.sent, "datagram"), r.targets(), time.Since(r.rhythm.began).Seconds())
		var sources []string
		for _, k := range []kindOfSender{{false, false}, {true, false}, {false, true}, {true, true}} {
			if s := r.senders[k]; s != nil && !slices.Contains(sources, s.Source().String()) { // one for groups and one for hosts have the same
				sources = append(sources, s.Source().String())
				text += ", from " + s.Source().String()
			}
		}
		if r.speed > 0 && r.sent > 1 {
			text += fmt.Sprintf("; 99 of 100 at most %.1f ms late, all %.1f ms", inMilliseconds(r.rhythm.late.within()), inMilliseconds(r.rhythm.late.most))
		}
		fmt.Fprintln(out, text)
	}
	left := r.left
	var words []string
	total := 0
	for why, n := range left {
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, skippedTexts[why]))
			total += n
		}
	}
	if total > 0 {
		printNote(errOut, fmt.Sprintf("of %s of the file these are not sent: %s", count(r.packets, "packet"), strings.Join(words, ", ")))
	}
	if n := r.reader.Incomplete(); n > 0 {
		printWarning(errOut, fmt.Sprintf("%s not sent, for fragments are missing", count(n, "datagram")))
	}
	if r.rhythm.backwards > 0 {
		printWarning(errOut, fmt.Sprintf("%s of the file are earlier than those before: they left in the order of the file", count(r.rhythm.backwards, "packet")))
	}
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// targets is "2 groups", "1 group and 3 hosts".
func (r *replayer) targets() string {
	groups, hosts := 0, 0
	for to := range r.targetsSeen {
		if to.Addr().IsMulticast() {
			groups++
		} else {
			hosts++
		}
	}
	var words []string
	if groups > 0 {
		words = append(words, count(groups, "group"))
	}
	if hosts > 0 {
		words = append(words, count(hosts, "host"))
	}
	if r.moreGroups {
		words = append(words, "more")
	}
	return strings.Join(words, " and ")
}

// whyNothing is what to do where nothing was sent.
func (r *replayer) whyNothing() string {
	switch {
	case r.packets == 0:
		return "there is no packet in it"
	case slices.Max(r.left[:]) == r.left[toHost] && r.left[toHost] > 0:
		return "--hosts sends what went to single hosts and broadcast addresses"
	case r.left[otherGroup] > 0:
		return "--group names other groups than the file has: tcpdump -n -r FILE shows them"
	}
	return "tcpdump -n -r FILE shows what is in it"
}
