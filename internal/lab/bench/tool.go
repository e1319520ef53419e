//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The programs of a run that are ours are this program again, as
//
//	bench tool NAME JOB
//
// They report what happens as events, a line of JSON each, on standard output, and
// apply orders in the same form from standard input, whose end is theirs too.

// A job is what a tool is told when it starts.
type job struct {
	traffic
	Broker string // host:port
	Mode   string // of the ceiling: see runCeiling
	Pause  bool   // the device looks for datagrams now and then
}

// An event is something that happened in a tool.
type event struct {
	Event  string  `json:"event"`
	At     int64   `json:"at,omitempty"`    // nanoseconds since 1970
	Count  int     `json:"count,omitempty"` // sent: how many
	Result *result `json:"result,omitempty"`
}

const (
	ready      = "ready"      // listens, or is connected
	subscribed = "subscribed" // the bridge's SUBSCRIBE came
	probed     = "probed"     // a probe of every stream came
	sent       = "sent"       // all messages or datagrams are on their way
	counted    = "counted"    // the result
)

// An order tells a tool to do something.
type order struct {
	Do       string
	Run      uint8
	Rate     float64 // a second, 0: as fast as the other side takes them
	Seconds  float64 // at most
	Messages int     // at most, 0: no bound
	Want     int
}

const (
	doSend  = "send"  // Run at Rate
	doCount = "count" // begin to count Run
	doEnd   = "end"   // conclude when Want have come, or nothing more does
)

var tools = map[string]func(job, <-chan order) error{
	"broker":  serveMessages,
	"publish": publishMessages,
	"device":  listenToGroups,
	"talk":    sendToGroups,
	"sink":    takeMessages,
	"ceiling": func(j job, _ <-chan order) error { return runCeiling(j) },
	"loop":    func(j job, _ <-chan order) error { return runLoop(j) },
	"paho":    func(j job, _ <-chan order) error { return runPaho(j) },
}

// runTool is the whole of a tool's process.
func runTool(args []string) int {
	tool := tools[args[0]]
	var j job
	err := fmt.Errorf("no tool %s", args[0])
	if tool != nil {
		if err = json.Unmarshal([]byte(args[1]), &j); err == nil {
			err = tool(j, readOrders(os.Stdin))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func emit(e event) {
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	// With nobody to read it, the parent has gone, and so will we.
	_ = json.NewEncoder(os.Stdout).Encode(e)
}

func readOrders(f *os.File) <-chan order {
	orders := make(chan order)
	go func() {
		defer close(orders)
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var o order
			if json.Unmarshal(lines.Bytes(), &o) == nil {
				orders <- o
			}
		}
	}()
	return orders
}

// sleepUntil sleeps to a time of the wall clock, in nanoseconds since 1970,
// more exactly than the timers of the Go runtime.
func sleepUntil(ns int64) {
	at := unix.NsecToTimespec(ns)
	for unix.ClockNanosleep(unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, &at, nil) == unix.EINTR {
	}
}

// A pace is how many messages of an order are due when.
type pace struct {
	order
	start int64
}

func newPace(o order) pace { return pace{o, time.Now().UnixNano()} }

// due is how many should have been sent by now; done reports whether those are all.
func (p pace) due(now int64) (n int, done bool) {
	elapsed := time.Duration(now - p.start).Seconds()
	n = int(^uint(0) >> 1)
	if p.Rate > 0 {
		n = int(min(elapsed, p.Seconds)*p.Rate) + 1
	}
	done = elapsed >= p.Seconds
	if p.Messages > 0 && n >= p.Messages {
		n, done = p.Messages, done || p.Rate > 0
	}
	return n, done
}

// next waits until more than made are due and returns how many; ok is false if it is over.
func (p pace) next(made int) (now int64, n int, ok bool) {
	for {
		now = time.Now().UnixNano()
		due, done := p.due(now)
		switch {
		case p.Rate == 0 && done:
			return now, 0, false // whatever has not been sent by now
		case made < due:
			return now, due - made, true
		case p.Rate == 0 || done:
			return now, 0, false
		}
		sleepUntil(p.at(made))
	}
}

// at is when the next one is due after n have been sent.
func (p pace) at(n int) int64 { return p.start + int64(float64(n)/p.Rate*1e9) }
