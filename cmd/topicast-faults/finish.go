//go:build linux

package main

import (
	"slices"
	"strings"
	"time"
)

// finish ends the traffic, waits until nothing comes any more, and fills in the
// row.
func (s *stage) finish() row {
	s.pass(s.times.before)
	if left := s.feed.finish(patience); left > 0 {
		s.fail("%d messages could not be handed in", left)
	}
	for _, name := range s.streams {
		if from, open := s.open[name]; open {
			s.spans[name] = append(s.spans[name], span{from, s.feed.next(name)})
		}
	}
	s.settle()
	r := &s.row
	for name, c := range s.counts {
		for _, sp := range s.spans[name] {
			r.in += sp.to - sp.from
		}
		r.out += c.within(s.spans[name])
		duplicates, disorders, heal := c.result()
		r.duplicates += duplicates
		r.disorders += disorders
		r.heal = max(r.heal, heal)
	}
	r.drops = s.retired + s.drops()
	for _, p := range s.started {
		if strings.Contains(p.Output(), "messages are being dropped") {
			s.tell("mosquitto's queue ran over: what topicast did not take in time was lost there")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong > 0 {
		s.fail("%d datagrams from another source", s.wrong)
	}
	if s.strange > 0 {
		s.fail("%d strange payloads", s.strange)
	}
	for _, d := range s.device {
		if n := d.Lost(); n > 0 {
			s.fail("the counting device itself lost %d datagrams", n)
		}
	}
	return *r
}

// settle waits until everything has arrived, or nothing has for a while.
func (s *stage) settle() {
	began := time.Now()
	s.until(s.times.heal, func() bool {
		missing, quiet := 0, time.Since(began)
		for name, c := range s.counts {
			for _, sp := range s.spans[name] {
				missing += sp.to - sp.from - c.within([]span{sp})
			}
			quiet = min(quiet, c.quiet(time.Now()))
		}
		return missing == 0 || quiet > s.times.quiet
	})
}

// harmless are the reasons of drops that lose nothing that was to be carried.
var harmless = []string{"own", "source", "unchanged", "loop"}

// drops is what the running bridge counts as lost.
func (s *stage) drops() (n int) {
	samples, err := s.metrics()
	if err != nil {
		return 0
	}
	for _, m := range samples {
		if m.name == "topicast_drops_total" && !slices.Contains(harmless, m.labels["reason"]) {
			n += int(m.value)
		}
	}
	return n
}
