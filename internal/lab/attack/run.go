//go:build linux

package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// runAll makes the attacks, some at a time, and returns their rows in order.
func runAll(ctx context.Context, dir string, o options) []row {
	var shared sync.RWMutex // what all namespaces share
	return harness.RunAll(&program, o.Parallel, o.attacks, func(a attack) string { return a.name }, func(a attack) row {
		if a.alone {
			shared.Lock()
			defer shared.Unlock()
		} else {
			shared.RLock()
			defer shared.RUnlock()
		}
		return runAttack(ctx, dir, o, a)
	})
}

// runAttack makes one, on a rig of its own.
func runAttack(ctx context.Context, dir string, o options, a attack) row {
	result := row{Name: a.name, About: a.about, Neighbours: -1, Victims: 1, Heal: -1, lossless: a.lossless, leastVictims: a.leastVictims}
	if ctx.Err() != nil {
		result.Absent = harness.Interrupted
		return result
	}
	if a.five && !o.Protocol.Five() {
		result.Absent = notSpoken
		return result
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	err := harness.WithT(func(t netlab.T) error {
		r, err := newAttackRig(own, t, dir, o, a)
		if err != nil {
			return err
		}
		r.row = result
		defer func() { result = r.row }()
		defer func() { program.KeepLogs(o.Logs, a.name, r.processes) }()
		if a.prepare != nil {
			a.prepare(r)
		}
		if err := r.start(); err != nil {
			return err
		}
		r.suffer()
		return nil
	})
	if err != nil {
		result.Fail("%v", err)
	}
	if ctx.Err() != nil {
		result.Absent = harness.Interrupted // what it shows is not the attack's doing
	}
	return result
}

// newAttackRig makes a rig in a folder of its own.
func newAttackRig(ctx context.Context, t netlab.T, dir string, o options, a attack) (*rig, error) {
	own, err := os.MkdirTemp(dir, a.name+"-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	group, err := harness.NewMemoryGroup(memoryLimit)
	if err == nil {
		t.Cleanup(func() {
			if err := group.Close(); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	r := newRig(ctx, t, own)
	r.attack, r.times, r.binary, r.group, r.protocol = a, o.times, harness.Topicast(dir), group, o.Protocol
	return r, os.Mkdir(r.spoolDir(), 0o700)
}

// suffer makes the attack and fills in the row.
func (r *rig) suffer() {
	pid := r.bridge.Process.Pid
	idle, _, err := harness.Memory(pid)
	r.must(err)
	r.must(harness.ForgetPeak(pid))
	lines := r.lines()
	if r.attack.hostile {
		lines = 0
	}
	start := r.feeding()
	r.began = time.Now()
	r.attack.run(r)
	end := time.Now()
	r.heal(end)
	r.row.Lasted = time.Since(r.began)
	r.settle()
	r.row.Lines = r.lines() - lines
	r.row.Died = r.ended()
	_, peak, err := harness.Memory(r.bridge.Process.Pid)
	if r.row.Died == "" {
		r.must(err)
	}
	r.row.Idle, r.row.OverIdle = idle, max(0, peak-idle)
	if r.attack.release != nil {
		r.attack.release(r)
		r.settle()
	}
	r.judge(start, end)
}

// heal waits until everything runs again.
func (r *rig) heal(end time.Time) {
	runs := func() bool {
		for _, s := range r.streams {
			if !s.runsSince(end) {
				return false
			}
		}
		return r.whole() == nil
	}
	if r.until(r.times.heal, func() bool { return r.ended() != "" || runs() }) && r.ended() == "" {
		r.row.Heal = time.Since(end)
		return
	}
	for _, s := range r.streams {
		if !s.runsSince(end) {
			r.addNote("%s does not run", s.name)
		}
	}
	if err := r.whole(); err != nil {
		r.addNote("not ready: %v", err)
	}
}

// settle ends the honest traffic and waits until all is accounted for, or nothing more
// comes.
func (r *rig) settle() {
	r.pause(100 * time.Millisecond)
	r.quiet.Store(true)
	r.pause(time.Second / streamRate)
	last, since := -1, time.Now()
	r.until(r.times.heal, func() bool {
		open := r.open()
		if open != last {
			last, since = open, time.Now()
		}
		r.pause(100 * time.Millisecond)
		return open == 0 || time.Since(since) > 3*time.Second || r.ended() != ""
	})
}

// open is how much is neither arrived nor counted.
func (r *rig) open() (n int) {
	counted, err := r.counted()
	if err != nil {
		return -1
	}
	for name, s := range r.streams {
		n += s.unaccounted(counted[name])
	}
	for name, s := range r.others {
		n += s.unaccounted(counted[name] + r.waiting(name))
	}
	return n
}

// judge fills in what became of the streams.
func (r *rig) judge(start, end time.Time) {
	var counted map[string]int
	var err error
	r.until(harness.Patience, func() bool { // a machine that is busy may let its answer wait
		counted, err = r.counted()
		return err == nil || r.row.Died != ""
	})
	if r.row.Died == "" {
		r.must(err)
	}
	for name, s := range r.streams {
		n := s.unaccounted(counted[name])
		r.row.Uncounted += n
		lost, of := s.lost()
		if n > 0 || lost > 0 {
			r.addNote("%s: %d of %d honest ones lost, %d dropped by topicast, %d of the attacker's neither out nor counted", name, lost, of, counted[name], n)
		}
		before, during := s.carried(start, r.began), s.carried(r.began, end)
		victim := slices.Contains(r.attack.victims, name)
		if victim || len(r.attack.victims) == 0 {
			r.row.In, r.row.Lost = r.row.In+of, r.row.Lost+lost
		}
		if victim {
			r.row.Victims = min(r.row.Victims, during)
		}
		if victim || r.attack.stops {
			continue
		}
		// What mosquitto itself, which the attack may have to do with as well, is late with is
		// not the bridge's doing.
		past := r.witness.carried(r.began, end)
		part := min(1, during/max(before, leastCarried)/max(past, 0.01))
		if part < leastCarried || past < leastCarried {
			r.addNote("%s carried %.3f, and %.3f before; mosquitto carried %.3f past topicast", name, during, before, past)
		}
		if r.row.Neighbours < 0 || part < r.row.Neighbours {
			r.row.Neighbours = part
		}
	}
	for name, s := range r.others {
		waits := r.waiting(name)
		if n := s.unaccounted(counted[name] + waits); n > 0 {
			r.row.Uncounted += n
			r.addNote("%s: %d of the attacker's neither out nor counted nor waiting; %d wait", name, n, waits)
		}
	}
	for _, d := range r.devices {
		if n := d.Lost(); n > 0 {
			r.fail("the counting device itself lost %d datagrams", n)
		}
	}
	if r.group == nil {
		r.addNote("no control group of memory here: it could have used more than %.0f MB", memoryLimit/1e6)
	}
}

// feeding is since when the honest traffic runs.
func (r *rig) feeding() (since time.Time) {
	since = time.Now()
	for _, s := range r.streams {
		s.mu.Lock()
		if len(s.made) > 0 && s.made[0].Before(since) {
			since = s.made[0]
		}
		s.mu.Unlock()
	}
	return since
}
