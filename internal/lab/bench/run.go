//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"topicast/internal/lab/harness"
)

// A sample is what one run of one peer gave.
type sample struct {
	result
	Sent    int     `json:"sent"`
	Lost    int     `json:"lost"`
	Rate    float64 `json:"rate"`              // arrived once, in order and whole, a second
	CPU     float64 `json:"cpu_s_per_million"` // of the bridge, user and system
	Idle    float64 `json:"idle_mb"`           // resident, connected and with nothing to do
	Peak    float64 `json:"peak_mb"`
	StartMS float64 `json:"start_ms,omitempty"` // from the start to SUBSCRIBE
	Failure string  `json:"failure,omitempty"`

	delayed bool // in a way that no count shows
}

// A bench runs the scenarios.
type bench struct {
	*rig
	tooling
	seconds  float64 // of load, in each run
	messages int     // at most, in each run; 0: no bound
	step     float64 // between two rates of a search
	tries    int     // for a rate to lose nothing
}

// run measures one peer in one scenario.
func (b *bench) run(ctx context.Context, s scenario, name string) (sample, error) {
	c, err := b.peer(name, s)
	if err != nil {
		return sample{}, err
	}
	switch s.kind {
	case flood:
		return b.flood(ctx, s, c)
	case latency:
		return b.latency(ctx, s, c, name == "csub")
	case again:
		return b.refreshes(ctx, s, c, name == "loop")
	case clean:
		return b.clean(ctx, s, c, name == "csub")
	}
	return b.receive(ctx, s, c)
}

// A meter reads what a bridge has used.
type meter struct {
	*process
	before time.Duration
	idle   float64
}

func newMeter(p *process) (m meter, err error) {
	m.process = p
	if m.before, err = harness.CPU(p.Process.Pid); err != nil {
		return m, p.withOutput(err)
	}
	if err = harness.ForgetPeak(p.Process.Pid); err != nil {
		return m, p.withOutput(err)
	}
	m.idle, _, err = harness.Memory(p.Process.Pid)
	return m, err
}

// read fills in what has been used since the meter was made.
func (m meter) read(s *sample) error {
	after, err := harness.CPU(m.Process.Pid)
	if err != nil {
		return m.withOutput(err)
	}
	if n := s.arrived(); n > 0 {
		s.CPU = (after - m.before).Seconds() / float64(n) * 1e6
	}
	s.Idle = m.idle
	_, s.Peak, err = harness.Memory(m.Process.Pid)
	return err
}

func newSample(r result, sentCount int) sample {
	return sample{result: r, Sent: sentCount, Lost: sentCount - r.arrived(), Rate: r.rate()}
}

var errNoResult = errors.New("counted, and there is no result")

// count is one run between two tools: source sends what o asks for, and sink
// counts what comes out of the bridge.
func count(ctx context.Context, source, sink *process, o order) (r result, sentCount int, err error) {
	limit := time.Duration(o.Seconds*float64(time.Second)) + 2*harness.Patience
	if err := sink.order(order{Do: doCount, Run: o.Run}); err != nil {
		return r, 0, sink.withOutput(err)
	}
	if _, err := sink.await(ctx, ready, harness.Patience); err != nil {
		return r, 0, err
	}
	if err := source.order(o); err != nil {
		return r, 0, source.withOutput(err)
	}
	e, err := source.await(ctx, sent, limit)
	if err != nil {
		return r, 0, err
	}
	if err := sink.order(order{Do: doEnd, Want: e.Count}); err != nil {
		return r, 0, sink.withOutput(err)
	}
	c, err := sink.await(ctx, counted, limit)
	if err != nil {
		return r, 0, err
	}
	if c.Result == nil {
		return r, 0, errNoResult
	}
	return *c.Result, e.Count, nil
}

// warmUp waits until the bridge carries every stream, and then until what it
// does only at its start is over. The probes go on meanwhile.
func warmUp(ctx context.Context, sink, bridge *process) error {
	const settle = 1300 * time.Millisecond // topicast takes up its garbage after a second
	if _, err := sink.awaitOf(ctx, probed, bridge); err != nil {
		return err
	}
	harness.Pause(ctx, settle)
	return ctx.Err()
}

// flood is one run of MQTT at TCP speed.
func (b *bench) flood(ctx context.Context, s scenario, c command) (out sample, err error) {
	own, others := placements()
	var all processes
	defer all.stop()
	device, err := all.startOne(ctx, b.Dev, others, b.tool("device", s), ready)
	if err != nil {
		return out, err
	}
	broker, err := all.startOne(ctx, b.Lan, others, b.tool("broker", s), ready)
	if err != nil {
		return out, err
	}
	bridge, err := all.startOne(ctx, b.GW, own, c, "")
	if err != nil {
		return out, err
	}
	e, err := broker.awaitOf(ctx, subscribed, bridge)
	if err != nil {
		return out, err
	}
	if err := warmUp(ctx, device, bridge); err != nil {
		return out, err
	}
	closePages, err := b.openPages(c)
	if err != nil {
		return out, bridge.withOutput(err)
	}
	defer closePages()
	m, err := newMeter(bridge)
	if err != nil {
		return out, err
	}
	r, n, err := count(ctx, broker, device, order{Do: doSend, Run: 1, Seconds: b.seconds, Messages: b.messages})
	if err != nil {
		return out, bridge.withOutput(err)
	}
	out = newSample(r, n)
	out.StartMS = time.Unix(0, e.At).Sub(bridge.started).Seconds() * 1e3
	return out, m.read(&out)
}

// openPages opens what is to be open of the status page while a bridge is measured.
func (b *bench) openPages(c command) (closeAll func(), err error) {
	var all []func() int64
	closeAll = func() {
		for _, end := range all {
			end()
		}
	}
	for _, path := range c.pages {
		end, err := harness.Follow(b.GW, "http://127.0.0.1:9479"+path)
		if err != nil {
			closeAll()
			return nil, err
		}
		all = append(all, end)
	}
	return closeAll, nil
}

// latency is one run through mosquitto. The subscriber in C counts by itself.
func (b *bench) latency(ctx context.Context, s scenario, c command, counts bool) (out sample, err error) {
	broker, err := b.rig.mosquitto(ctx, s.tuned)
	if err != nil {
		return out, err
	}
	defer broker.Kill()
	var all processes
	defer all.stop()
	n := b.paced(s.rate)
	c.env = append(c.env, fmt.Sprint("WANT=", n))
	// What is not measured has priority, so that its delays are not measured either.
	first := placement{first: true}
	bridge, err := all.startOne(ctx, b.GW, placement{}, c, "")
	if err != nil {
		return out, err
	}
	sink := bridge
	if !counts {
		if sink, err = all.startOne(ctx, b.Dev, first, b.tool("device", s), ready); err != nil {
			return out, err
		}
	}
	publisher, err := all.startOne(ctx, b.Lan, first, b.tool("publish", s), ready)
	if err != nil {
		return out, err
	}
	if err := warmUp(ctx, sink, bridge); err != nil {
		return out, err
	}
	closePages, err := b.openPages(c)
	if err != nil {
		return out, bridge.withOutput(err)
	}
	defer closePages()
	m, err := newMeter(bridge)
	if err != nil {
		return out, err
	}
	with := count
	if counts {
		with = alone
	}
	r, n, err := with(ctx, publisher, sink, order{Do: doSend, Run: 1, Rate: s.rate, Seconds: float64(n) / s.rate, Messages: n})
	if err != nil {
		return out, bridge.withOutput(err)
	}
	out = newSample(r, n)
	return out, m.read(&out)
}

// alone is count for the subscriber in C, which takes no orders.
func alone(ctx context.Context, source, sink *process, o order) (r result, sentCount int, err error) {
	if err := source.order(o); err != nil {
		return r, 0, source.withOutput(err)
	}
	limit := time.Duration(o.Seconds*float64(time.Second)) + harness.Patience
	e, err := sink.await(ctx, counted, limit)
	if err != nil {
		return r, 0, err
	}
	if e.Result == nil {
		return r, 0, errNoResult
	}
	return *e.Result, o.Messages, nil
}

// paced is how many messages a paced run has.
func (b *bench) paced(rate float64) int {
	n := int(rate * b.seconds)
	if b.messages > 0 {
		n = min(n, b.messages)
	}
	return max(n, 1)
}
