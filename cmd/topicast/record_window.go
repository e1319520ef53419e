package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/tap"
	"topicast/internal/capture"
)

// A datagram waits a moment before it is written: what is decided about it comes after it, by
// several rules perhaps, and those of several interfaces do not come in the order of their times,
// in which a capture is to be.

const (
	// recordWait is how long a datagram waits.
	recordWait = 400 * time.Millisecond

	// maxRecordWaiting is how many wait, and maxRecordBytes how many bytes of payloads; the oldest
	// are written before their time then.
	maxRecordWaiting = 1 << 16
	maxRecordBytes   = 64 << 20

	// maxRecordReasons is how many reasons are told apart of what is not in the file.
	maxRecordReasons = 64
)

// recorded is a datagram that waits to be written.
type recorded struct {
	capture.Datagram
	came   time.Time // here
	number uint64    // of what was received
	wanted bool      // it was asked for
}

// recordWindow are those that wait, in the order of their times, and of their coming where these
// are equal.
type recordWindow struct {
	waiting  []*recorded
	bytes    int
	byNumber map[uint64]*recorded
}

func (w *recordWindow) add(d *recorded) {
	at := len(w.waiting)
	for at > 0 && w.waiting[at-1].At.After(d.At) {
		at--
	}
	w.waiting = slices.Insert(w.waiting, at, d)
	w.bytes += len(d.Payload)
	if d.number > 0 {
		if w.byNumber == nil {
			w.byNumber = make(map[uint64]*recorded)
		}
		w.byNumber[d.number] = d
	}
}

// next takes out the first, if it came before a time, or there are too many; the zero time: in
// any case.
func (w *recordWindow) next(before time.Time) *recorded {
	if len(w.waiting) == 0 {
		return nil
	}
	d := w.waiting[0]
	if !before.IsZero() && !d.came.Before(before) && len(w.waiting) <= maxRecordWaiting && w.bytes <= maxRecordBytes {
		return nil
	}
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	w.bytes -= len(d.Payload)
	delete(w.byNumber, d.number)
	return d
}

// take takes an event in, or how many were missed.
func (r *recording) take(e *tap.Event, missed uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if missed > 0 {
		r.counts.missed += missed
		r.gap += missed
		return r.err
	}
	switch {
	case e.Decision == tap.Heard:
		d := r.window.byNumber[e.Datagram]
		if d == nil { // else another rule has heard it too
			d = r.add(e, capture.Inbound, e.Source)
			d.wanted = r.all
		}
	case e.Datagram > 0:
		if d := r.window.byNumber[e.Datagram]; d != nil { // else it was decided long after it came
			d.wanted = true
			d.Comments = append(d.Comments, eventComment(e))
		}
	case e.Decision == tap.Sent:
		r.add(e, capture.Outbound, e.Source).Comments = []string{eventComment(e)}
	case e.Direction == tap.Answer && e.Source.IsValid(): // else no datagram has come
		r.add(e, capture.Inbound, e.Source).Comments = []string{eventComment(e)}
	case e.Decision != tap.Dropped && e.Decision != tap.Filtered:
		// It waits, and another event tells of it; or it has waited, and is in the file; or it
		// is told that there is no answer.
	case e.Reason == account.ReasonOwn.String():
		// It is in the file as it was sent.
	case r.unsent && e.Direction == tap.Send && e.To.IsValid():
		from := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		if e.To.Addr().Is6() {
			from = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		}
		r.add(e, capture.Unknown, from).Comments = []string{eventComment(e)}
	default:
		what := strings.TrimSpace(string(e.Decision) + " " + e.Reason)
		if _, known := r.counts.left[what]; !known && len(r.counts.left) >= maxRecordReasons {
			what = "others"
		}
		r.counts.left[what] += max(e.Count, 1)
	}
	if len(r.window.waiting) > maxRecordWaiting || r.window.bytes > maxRecordBytes {
		return r.write(time.Now().Add(-recordWait))
	}
	return r.err
}

// add has the datagram of an event wait. Callers hold mu.
func (r *recording) add(e *tap.Event, way capture.Direction, from netip.AddrPort) *recorded {
	d := &recorded{came: time.Now(), wanted: true, number: e.Datagram, Datagram: capture.Datagram{
		At: e.Time, Interface: e.Interface, Source: withoutZone(from), To: withoutZone(e.To), Payload: e.Payload, TTL: e.TTL, Direction: way, Missed: r.gap,
	}}
	r.gap = 0
	r.window.add(d)
	return d
}

func withoutZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// write writes what came before a time; the zero time: all. Callers hold mu.
func (r *recording) write(before time.Time) error {
	for r.err == nil {
		d := r.window.next(before)
		if d == nil {
			return nil
		}
		if !d.wanted {
			r.gap += d.Missed
			continue
		}
		if d.Missed > 0 {
			d.Comments = append(d.Comments, fmt.Sprintf("about here %d events were missed", d.Missed))
		}
		switch err := r.out.Write(d.Datagram); {
		case err == nil:
			r.counts.add(d)
		case errors.Is(err, capture.ErrFull), r.out.Failed():
			r.err = r.named(err)
		default:
			r.counts.refused++
		}
	}
	return r.err
}

// eventComment says of a datagram what was decided.
func eventComment(e *tap.Event) string {
	text := string(e.Decision)
	if e.Direction == tap.Answer {
		text = "answer " + text
	}
	if e.Decision == tap.Dropped || e.Decision == tap.Filtered {
		text = strings.TrimSpace(text + " " + e.Reason)
	}
	if e.Rule != "" {
		text += ", rule " + e.Rule
	}
	if e.Topic != "" {
		text += ", topic " + shortened(e.Topic, 400)
	}
	if e.AnswerTopic != "" {
		text += ", on " + shortened(e.AnswerTopic, 400)
	}
	if e.Latency > 0 {
		text += ", after " + shortTime(e.Latency)
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return printable(text)
}

func (c *recordCounts) add(d *recorded) {
	switch {
	case d.Direction == capture.Outbound:
		c.sent++
	case d.number > 0:
		c.received++
	case d.Direction == capture.Inbound:
		c.answers++
	default:
		c.unsent++
	}
}

// recorded says what is in the file.
func (c *recordCounts) recorded() string {
	text := fmt.Sprintf("%d sent and %d received", c.sent, c.received)
	if c.answers > 0 {
		text = fmt.Sprintf("%d sent, %d received and %s", c.sent, c.received, count(c.answers, "answer"))
	}
	if c.unsent > 0 {
		text += fmt.Sprintf(", and %s that did not leave", count(c.unsent, "message"))
	}
	return text
}

// notes say what is not in it.
func (c *recordCounts) notes() (notes []string) {
	var words []string
	for _, what := range slices.Sorted(maps.Keys(c.left)) {
		words = append(words, fmt.Sprintf("%d %s", c.left[what], what))
	}
	if words != nil {
		notes = append(notes, "not in the file, since they were no datagrams or no more is known of them: "+strings.Join(words, ", "))
	}
	if c.missed > 0 {
		notes = append(notes, fmt.Sprintf("%d events were missed, since they came faster than they could be told; --rule, a topic or a group narrows them", c.missed))
	}
	if c.refused > 0 {
		notes = append(notes, fmt.Sprintf("%s could not be written, for addresses that are not known", count(c.refused, "datagram")))
	}
	return notes
}
