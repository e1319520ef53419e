package mapping

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Rate is how many datagrams a target gets at most, evenly spaced: one a period. The zero
// Rate sets no limit.
type Rate struct {
	n    uint32
	unit uint8 // place in units
}

// The least and the greatest time between two datagrams. A timer is late by a tenth of a
// millisecond, so that shorter ones would not be kept.
const (
	minPeriod = time.Millisecond
	maxPeriod = time.Hour
)

// units are what a rate may be of.
var units = []struct {
	name string
	is   time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

// ParseRate reads a number and its unit: 50/s, 10/m or 6/h, from 1/h to 1000/s; "" is no limit.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	for i, u := range units {
		if err != nil || n < 1 || number[0] == '+' || number[0] == '0' || unit != u.name {
			continue
		}
		if r := (Rate{uint32(n), uint8(i)}); r.Period() >= minPeriod && r.Period() <= maxPeriod {
			return r, nil
		}
		return Rate{}, fmt.Errorf("rate %s: is out of range: 1/h to 1000/s", s)
	}
	return Rate{}, fmt.Errorf("rate %s: is not a number of datagrams and their time, such as 50/s, 10/m or 6/h", quote(s))
}

// IsZero reports whether there is no limit.
func (r Rate) IsZero() bool { return r.n == 0 }

// Period is the least time between two datagrams for a target; 0: there is none.
func (r Rate) Period() time.Duration {
	if r.n == 0 {
		return 0
	}
	return units[r.unit].is / time.Duration(r.n)
}

// String returns the rate as written; "" for the zero Rate.
func (r Rate) String() string {
	if r.n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(r.n), 10) + "/" + units[r.unit].name
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

// WhenOver says what becomes of messages that come faster than their rule's rate.
type WhenOver uint8

const (
	OverWait   WhenOver = iota // they wait, in order
	OverLatest                 // the last message of each topic waits
	OverDrop                   // they are dropped
)

var whenOverNames = wordList{"wait", "latest", "drop"}

// ParseWhenOver reads wait, latest or drop.
func ParseWhenOver(s string) (WhenOver, error) {
	i, err := parseName("when_over", s, whenOverNames)
	return WhenOver(i), err
}

// String returns wait, latest or drop.
func (o WhenOver) String() string { return whenOverNames.word(int(o), int(o), "WhenOver") }

// MarshalText is String.
func (o WhenOver) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is ParseWhenOver.
func (o *WhenOver) UnmarshalText(text []byte) (err error) {
	*o, err = ParseWhenOver(string(text))
	return err
}

// KeepsLatest reports whether of what waits only the last message of each topic is sent.
func (r *SendRule) KeepsLatest() bool { return r.OnDown == OnDownLatest || r.WhenOver == OverLatest }

// checkRhythm looks at what says when the rule's datagrams leave.
func (c *compilation) checkRhythm(r *SendRule) {
	if r.Refresh != 0 && r.Refresh < minRefresh {
		c.fault("refresh", "0s sends nothing again", "%v is less than %v", r.Refresh, minRefresh)
	}
	if _, err := NewRepeat(r.Repeat.Times(), max(r.Repeat.Every, MinRepeatEvery)); err != nil {
		c.fault("repeat", "", "%w", err)
	}
	switch {
	case int(r.WhenOver) >= len(whenOverNames):
		c.fault("when_over", "", "%d is not %v", uint8(r.WhenOver), whenOverNames)
	case r.WhenOver != OverWait && r.Rate.IsZero() && r.Answer == nil:
		c.fault("when_over", "give a rate too, as in rate: 50/s", "%s is about messages that come faster than the rate, and the rule has none", r.WhenOver)
	}
}
