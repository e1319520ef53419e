//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// streamRate is how many messages a second each stream makes.
	streamRate = 50
	// prompt is how late a message may arrive and still count as carried.
	prompt = time.Second

	honest       = "honest" // what an honest payload begins with
	ordinarySize = 128
)

// A stream is the honest traffic of one rule: numbered messages, and what became of them.
// Beside it the rule may carry what is the attacker's.
type stream struct {
	name string // of its rule
	size int    // of its payloads

	// Where it comes out, if no honest messages are in it; neither: nowhere.
	topics string         // that the subscriber hears, by what they begin with
	group  netip.AddrPort // that dev hears

	mu      sync.Mutex
	resting bool
	made    []time.Time // by number
	arrived []time.Time // by number; zero: not yet
	others  int         // arrivals that are none of these
	offered int         // messages and datagrams of the attacker for the rule
}

// next makes the next payload.
func (s *stream) next(now time.Time) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := fmt.Appendf(make([]byte, 0, s.size), "%s %s %d ", honest, s.name, len(s.made))
	for len(b) < s.size {
		b = append(b, '.')
	}
	s.made = append(s.made, now)
	s.arrived = append(s.arrived, time.Time{})
	return b
}

// note takes an arrival by the stream's rule. One that comes twice counts once.
func (s *stream) note(payload []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.number(payload)
	if !ok {
		s.others++
		return
	}
	if n >= 0 && n < len(s.arrived) && s.arrived[n].IsZero() {
		s.arrived[n] = now
	}
}

// number is that of a payload of the stream.
func (s *stream) number(payload []byte) (n int, ok bool) {
	part := strings.SplitN(string(payload[:min(len(payload), ordinarySize)]), " ", 4)
	if len(part) < 4 || part[0] != honest || part[1] != s.name {
		return 0, false
	}
	n, err := strconv.Atoi(part[2])
	return n, err == nil
}

// madeAt is when the message of a number was made.
func (s *stream) madeAt(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[n]
}

// noteForged takes an arrival by the stream's rule that is none of the stream's.
func (s *stream) noteForged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others++
}

// rest has the stream make nothing, or go on.
func (s *stream) rest(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = on
}

func (s *stream) rests() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resting
}

// forget has what was made so far count for nothing: it was made before anything could
// carry it.
func (s *stream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, a := range s.arrived {
		if a.IsZero() {
			s.arrived[n] = s.made[n]
		}
	}
}

// offer notes what the attacker has given to the rule.
func (s *stream) offer(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered += n
}

// lost is how many have not arrived, of how many.
func (s *stream) lost() (lost, of int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.arrived {
		if a.IsZero() {
			lost++
		}
	}
	return lost, len(s.made)
}

// unaccounted is how much of all that the rule was given neither arrived nor is among the
// drops that are counted.
func (s *stream) unaccounted(counted int) int {
	lost, _ := s.lost()
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, lost+max(0, s.offered-s.others)-counted)
}

// carried is the part of what was made in a time that arrived promptly; 1 if nothing was
// made then.
func (s *stream) carried(from, to time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, good := 0, 0
	for n, at := range s.made {
		if at.Before(from) || !at.Before(to) {
			continue
		}
		made++
		if a := s.arrived[n]; !a.IsZero() && a.Sub(at) <= prompt {
			good++
		}
	}
	if made == 0 {
		return 1
	}
	return float64(good) / float64(made)
}

// runsSince reports whether something that was made after t has arrived.
func (s *stream) runsSince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.made) - 1; n >= 0 && s.made[n].After(t); n-- {
		if !s.arrived[n].IsZero() {
			return true
		}
	}
	return false
}
