package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"topicast/configs"
	"topicast/mapping"
)

// A reload takes over a new configuration while the bridge runs:
//
//  1. SIGHUP asks for it, or the file has another content
//  2. the file is loaded, with the flags and the variables of the start
//  3. it has a fault: that is logged, and everything stays as it is
//  4. its rules go to the bridge, its log.level to the log
//  5. what else has changed is named, since it takes effect at the next start

// reloader is what carries the rules; a *bridge.Bridge.
type reloader interface {
	// Reload replaces the rules by those of the table. After an error the old
	// ones are still in force.
	Reload(ctx context.Context, table *mapping.Table) error
	// ReloadFailed says that there is a configuration that could not be taken.
	ReloadFailed(err error)
}

// reloading reloads, one configuration after the other.
type reloading struct {
	hangup  <-chan os.Signal
	load    func(file string) (*configs.Config, error)
	bridge  reloader
	manager systemd
	level   *slog.LevelVar
	log     *slog.Logger

	started *configs.Config // whose sections are in force until the end
	current *configs.Config // whose rules are in force
	failure string          // why the last one was not taken; "" if it was
}

// run reloads whenever it is asked to, until ctx ends.
func (r *reloading) run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		r.started.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // it is told already
			}
		})
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangup:
			r.reload(ctx, true)
		case <-changed:
			r.reload(ctx, false)
		}
	}
}

// reload loads the file and takes it over. Whoever sends a signal wants an answer,
// and the file may be the same while an interface is another; but a change of the
// file that a signal has brought in already is no news.
func (r *reloading) reload(ctx context.Context, asked bool) {
	cfg, err := r.load(r.started.File)
	if !asked && r.known(cfg, err) {
		return
	}
	r.manager.reloading()
	if err == nil {
		err = r.bridge.Reload(ctx, cfg.Table)
	}
	switch {
	case ctx.Err() != nil: // the end came in between
		return
	case err != nil:
		r.refused(err)
	default:
		r.taken(cfg)
	}
	// Two tables and a file, which would count as ours until more is allocated.
	debug.FreeOSMemory()
	returnCode()
}

// known tells whether this is how the last reload ended.
func (r *reloading) known(cfg *configs.Config, err error) bool {
	if err != nil {
		return r.failure == err.Error()
	}
	return r.failure == "" && cfg.SameFile(r.current)
}

// refused says each fault in a line of its own.
func (r *reloading) refused(err error) {
	const outcome = "configuration not reloaded; the old one stays in force"
	r.failure = err.Error()
	r.bridge.ReloadFailed(err)
	faults := faultsOf(r.started.File, err)
	for _, f := range faults {
		if f.Hint != "" {
			r.log.Error(outcome, "err", f, "hint", f.Hint)
		} else {
			r.log.Error(outcome, "err", f)
		}
	}
	status := outcome + ": " + faults[0].Error()
	if more := len(faults) - 1; more > 0 {
		status += ", and " + count(more, "fault") + " more"
	}
	r.manager.ready(func() string { return status })
}

// taken logs as a start does.
func (r *reloading) taken(cfg *configs.Config) {
	r.current, r.failure = cfg, ""
	r.level.Set(cfg.Log.Level)
	r.log.Info("configuration reloaded", "config", cfg.File,
		"send_rules", len(cfg.Table.Send()), "receive_rules", len(cfg.Table.Receive()))
	for _, w := range cfg.Warnings {
		r.log.Warn(w.Error())
	}
	later := slices.DeleteFunc(cfg.Changed(r.started), func(path string) bool { return path == "log.level" })
	if len(later) > 0 {
		r.log.Warn("changed, and takes effect at the next start", "keys", strings.Join(later, ", "))
	}
	r.manager.ready(func() string { return sum(cfg.Table) })
	cfg.Release()
}
