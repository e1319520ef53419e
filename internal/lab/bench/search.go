//go:build linux

package main

import (
	"context"
	"fmt"
	"math"

	"topicast/internal/lab/harness"
)

// receive is one run from groups to MQTT: at the scenario's rate, or at the
// highest of which nothing is lost.
func (b *bench) receive(ctx context.Context, s scenario, c command) (out sample, err error) {
	own, others := placements()
	if s.kind == paced {
		own, others = placement{}, placement{first: true}
	}
	var all processes
	defer all.stop()
	sink, err := all.startOne(ctx, b.Lan, others, b.tool("sink", s), ready)
	if err != nil {
		return out, err
	}
	bridge, err := all.startOne(ctx, b.GW, own, c, "")
	if err != nil {
		return out, err
	}
	device, err := all.startOne(ctx, b.Dev, others, b.tool("talk", s), ready)
	if err != nil {
		return out, err
	}
	if err := warmUp(ctx, sink, bridge); err != nil {
		return out, err
	}
	idle, _, err := harness.Memory(bridge.Process.Pid)
	if err != nil {
		return out, bridge.withOutput(err)
	}
	var run uint8
	at := func(rate float64) (sample, error) {
		m, err := newMeter(bridge)
		if err != nil {
			return sample{}, err
		}
		m.idle = idle // not what an earlier rate has left
		run++
		n := b.share(s).paced(rate)
		r, n, err := count(ctx, device, sink, order{Do: doSend, Run: run, Rate: rate, Seconds: float64(n) / rate, Messages: n})
		if err != nil {
			return sample{}, bridge.withOutput(err)
		}
		got := newSample(r, n)
		return got, m.read(&got)
	}
	if s.kind == paced {
		return at(s.rate)
	}
	return b.highest(2e6, at)
}

// clean looks for the highest rate through mosquitto, which loses nothing when
// there is too much but hands it on ever later.
func (b *bench) clean(ctx context.Context, s scenario, c command, counts bool) (sample, error) {
	const latest = 50e3 // µs
	return b.highest(200e3, func(rate float64) (sample, error) {
		s.rate = rate
		got, err := b.share(s).latency(ctx, s, c, counts)
		got.delayed = got.P99 > latest
		return got, err
	})
}

// share is the bench with the time that one rate of a scenario gets.
func (b *bench) share(s scenario) *bench {
	one := *b
	if s.kind == search || s.kind == clean {
		one.seconds /= 4
	}
	return &one
}

// highest looks for the highest rate, up to a bound, that loses and spoils
// nothing, on a ladder whose rungs are b.step apart.
func (b *bench) highest(bound float64, at func(rate float64) (sample, error)) (best sample, err error) {
	const lowest = 1000 // a second
	low, high := -1, int(math.Log(bound/lowest)/math.Log(b.step))+1
	for high-low > 1 {
		rung := (low + high) / 2
		rate := lowest * math.Pow(b.step, float64(rung))
		got, err := b.attempt(rate, at)
		if err != nil {
			return best, err
		}
		if !got.good() {
			high = rung
			continue
		}
		low = rung
		if got.Rate > best.Rate {
			best = got
		}
	}
	if low < 0 {
		return best, fmt.Errorf("not even %d a second are carried well", lowest)
	}
	return best, nil
}

// attempt tries a rate until it is carried well, b.tries times at most: the
// machine may have been busy with something else.
func (b *bench) attempt(rate float64, at func(rate float64) (sample, error)) (got sample, err error) {
	for range b.tries {
		if got, err = at(rate); err != nil || got.good() {
			break
		}
	}
	return got, err
}

// good reports whether nothing was lost or delayed.
func (s sample) good() bool {
	return !s.delayed && s.Lost == 0 && s.Late == 0 && s.Wrong == 0 && s.Duplicates == 0
}
