//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"topicast/internal/lab/harness"
)

// The verdict; see the package's comment.
const (
	leastCarried = 0.95
	mostOverIdle = 64.0 // MB
	mostHeal     = 5 * time.Second
	fewLines     = 20 // for each start, and one a second
)

// notSpoken is why an attack is not made that only a broker of MQTT 5 can make.
const notSpoken = "not in MQTT 3.1.1"

// A row is what one attack did.
type row struct {
	Name       string        `json:"name"`
	About      string        `json:"attack"`
	Cost       cost          `json:"cost"`
	In         int           `json:"in"`
	Lost       int           `json:"lost"`
	Uncounted  int           `json:"uncounted"`
	Victims    float64       `json:"victims"`    // the worst part of a victim's messages that arrived in time during the attack
	Neighbours float64       `json:"neighbours"` // the same of the neighbours; -1: there are none
	OverIdle   float64       `json:"over_idle_mb"`
	Idle       float64       `json:"idle_mb"`
	Lines      int           `json:"log_lines"`
	Lasted     time.Duration `json:"lasted_ns"` // the attack and the healing
	Heal       time.Duration `json:"heal_ns"`   // -1: never
	Died       string        `json:"died,omitempty"`
	harness.Outcome

	lossless     bool
	restarts     int
	leastVictims float64
}

// A cost is what an attacker spends.
type cost struct {
	Datagrams   int `json:"datagrams,omitempty"`
	Messages    int `json:"messages,omitempty"`
	Packets     int `json:"packets,omitempty"` // of MQTT, by the broker
	Connections int `json:"connections,omitempty"`
	Requests    int `json:"requests,omitempty"`
	Bytes       int `json:"bytes,omitempty"`
}

func (c cost) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{c.Connections, "connection"}, {c.Datagrams, "datagram"}, {c.Messages, "message"}, {c.Packets, "packet"}, {c.Requests, "request"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.what)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", p.n, p.what))
		}
	}
	switch {
	case c.Bytes >= 1e6:
		parts = append(parts, fmt.Sprintf("%.1f MB", float64(c.Bytes)/1e6))
	case c.Bytes >= 1e3:
		parts = append(parts, fmt.Sprintf("%.0f kB", float64(c.Bytes)/1e3))
	case c.Bytes > 0:
		parts = append(parts, fmt.Sprintf("%d bytes", c.Bytes))
	}
	return strings.Join(parts, ", ")
}

// Judge is the verdict's part of [harness.Row].
func (r row) Judge() (reasons []string) {
	add := func(bad bool, format string, args ...any) {
		if bad {
			reasons = append(reasons, fmt.Sprintf(format, args...))
		}
	}
	add(r.Died != "", "topicast ended: %s", r.Died)
	add(r.In == 0, "no message went in")
	add(r.Uncounted > 0, "%d lost without a count", r.Uncounted)
	add(r.lossless && r.Lost > 0, "%d lost of what nothing may be lost of", r.Lost)
	add(r.Victims < r.leastVictims, "the victims carried %.3f, less than %.2f", r.Victims, r.leastVictims)
	add(r.Neighbours >= 0 && r.Neighbours < leastCarried, "the neighbours carried %.3f, less than %.2f", r.Neighbours, leastCarried)
	add(r.OverIdle > mostOverIdle, "%.0f MB over idle, more than %.0f", r.OverIdle, mostOverIdle)
	add(r.Lines > r.mostLines(), "%d lines logged, more than %d", r.Lines, r.mostLines())
	add(r.Heal < 0, "it did not heal")
	add(r.Heal > mostHeal, "healed after %.1f s, more than %.0f", r.Heal.Seconds(), mostHeal.Seconds())
	return reasons
}

func (r row) mostLines() int { return fewLines*(1+r.restarts) + int(r.Lasted.Seconds()) }
