package mapping

import (
	"fmt"
	"strconv"
	"time"
)

// Repeat says how often each datagram is sent. The zero Repeat is once.
type Repeat struct {
	Copies uint8         // after the first
	Every  time.Duration // from one to the next
}

// The most that Repeat may ask for.
const (
	MaxTimes       = 10
	MinRepeatEvery = time.Millisecond
	MaxRepeatEvery = 10 * time.Second
	minRefresh     = 20 * time.Millisecond

	// DefaultRepeatEvery is the time between copies where the rule does not say.
	DefaultRepeatEvery = 20 * time.Millisecond
)

// Times is how often a datagram is sent in all.
func (r Repeat) Times() int { return 1 + int(r.Copies) }

// String is "1", or "3, one each 20ms".
func (r Repeat) String() string {
	if r.Copies == 0 {
		return "1"
	}
	return strconv.Itoa(r.Times()) + ", one each " + r.Every.String()
}

// NewRepeat is so many times, so far apart.
func NewRepeat(times int, every time.Duration) (Repeat, error) {
	switch {
	case times < 1 || times > MaxTimes:
		return Repeat{}, fmt.Errorf("times: %d is out of range: 1 to %d", times, MaxTimes)
	case every < MinRepeatEvery || every > MaxRepeatEvery:
		return Repeat{}, fmt.Errorf("every: %v is out of range: %v to %v", every, MinRepeatEvery, MaxRepeatEvery)
	case times == 1:
		return Repeat{}, nil
	}
	return Repeat{uint8(times - 1), every}, nil
}

// SendsAgain reports whether datagrams of the rule are sent again by themselves.
func (r *SendRule) SendsAgain() bool { return r.Repeat.Copies > 0 || r.Refresh > 0 }

// refreshedLoops warns of rules that send again and again what may come back.
func (t *Table) refreshedLoops() (warnings []Warning) {
	for i := range t.send {
		if t.send[i].Refresh > 0 && t.SendLoops(i) && len(warnings) < maxWarnings {
			warnings = append(warnings, Warning{t.sendAt(i).path("refresh"), fmt.Sprintf(
				"what this rule sends can come back to its own filter through another bridge, and the loop guard knows it for loops.time only: what is sent again each %v may go round", t.send[i].Refresh)})
		}
	}
	return warnings
}
