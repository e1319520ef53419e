//go:build linux

package main

import (
	"slices"
	"strings"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// finish ends the traffic, waits until nothing comes any more, and fills in the
// row.
func (r *rig) finish() row {
	r.pause(r.times.before)
	if left := r.feed.finish(harness.Patience); left > 0 {
		r.fail("%d messages could not be handed in", left)
	}
	for _, name := range r.streams {
		if from, open := r.open[name]; open {
			r.spans[name] = append(r.spans[name], span{from, r.feed.next(name)})
		}
	}
	r.settle()
	result := &r.row
	for name, c := range r.counts {
		for _, sp := range r.spans[name] {
			result.in += sp.to - sp.from
		}
		result.out += c.within(r.spans[name])
		duplicates, disorders, heal := c.result()
		result.duplicates += duplicates
		result.disorders += disorders
		result.heal = max(result.heal, heal)
	}
	if r.cable != nil {
		result.disorders = disordersOf(r.cable.Datagrams())
	}
	result.drops = r.earlierDrops + r.drops()
	for _, p := range r.processes {
		if strings.Contains(p.Output(), "messages are being dropped") {
			r.addNote("mosquitto's queue ran over: what topicast did not take in time was lost there")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrongSource > 0 {
		r.fail("%d datagrams from another source", r.wrongSource)
	}
	if r.unknown > 0 {
		r.fail("%d strange payloads", r.unknown)
	}
	for _, d := range r.devices {
		if n := d.Lost(); n > 0 {
			r.fail("the counting device itself lost %d datagrams", n)
		}
	}
	return *result
}

// disordersOf counts as a device does.
func disordersOf(sent []netlab.Frame) int {
	var c count
	for _, f := range sent {
		if _, number, made, ok := readPayload(f.Payload); ok {
			c.note(number, made, made)
		}
	}
	_, disorders, _ := c.result()
	return disorders
}

// settle waits until everything has arrived, or nothing has for a while.
func (r *rig) settle() {
	began := time.Now()
	r.until(r.times.heal, func() bool {
		missing, quiet := 0, time.Since(began)
		for name, c := range r.counts {
			for _, sp := range r.spans[name] {
				missing += sp.to - sp.from - c.within([]span{sp})
			}
			quiet = min(quiet, c.quiet(time.Now()))
		}
		return missing == 0 || quiet > r.times.quiet
	})
}

// harmless are the reasons that lose nothing that was to be carried. The others that
// are filtered are counted: the sums of the report are of all that did not arrive.
var harmless = []string{"own", "source", "unchanged", "loop", "retained"}

// drops is what the running bridge counts as lost.
func (r *rig) drops() (n int) {
	samples, err := r.metrics()
	if err != nil {
		return 0
	}
	for _, m := range samples {
		counts := m.Name == "topicast_drops_total" || m.Name == "topicast_filtered_total"
		if counts && !slices.Contains(harmless, m.Labels["reason"]) {
			n += int(m.Value)
		}
	}
	return n
}
