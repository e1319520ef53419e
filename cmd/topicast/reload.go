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
//  4. its rules go to the bridge, its log.level to the log, and its control socket is opened
//  5. what else has changed is named, since it takes effect at the next start

// reloader is what carries the rules; a *bridge.Bridge.
type reloader interface {
	// Reload replaces the rules by those of the table. After an error the old
	// ones are still in force.
	Reload(ctx context.Context, table *mapping.Table) error
	// Table is the rules in force.
	Table() *mapping.Table
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
	// What check says of the rules on this host, while the bridge goes on; or nil.
	sayNetwork func(*configs.Config)

	control *controlSocket // nil: there is none

	started *configs.Config // whose sections are in force until the end
	current *configs.Config // whose rules are in force
	former  *mapping.Table  // that of the process before, if it is known and another
	failure string          // why the last one was not taken; "" if it was
	told    uint64          // the content that the watch has found last; 0: none
}

// run reloads whenever it is asked to, until ctx ends.
func (r *reloading) run(ctx context.Context) {
	changed := make(chan uint64, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		r.started.Watch(ctx, func(sum uint64) {
			select {
			case <-changed: // an earlier content, which is no more
			default:
			}
			changed <- sum
		})
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangup:
			r.reload(ctx, true)
		case r.told = <-changed:
			r.reload(ctx, false)
		}
	}
}

// reload loads the file and takes it over. Whoever sends a signal wants an answer,
// and the file may be the same while an interface is another; but a change of the
// file that a signal has brought in already is no news.
func (r *reloading) reload(ctx context.Context, asked bool) {
	cfg, err := r.loadAgain()
	known := r.known(cfg, err)
	if !asked && known {
		return
	}
	if !asked && err == nil && r.told != 0 && !cfg.HasSum(r.told) {
		return // it is being written to again, which the watch will tell
	}
	r.manager.reloading()
	var changes mapping.Changes
	if err == nil {
		before := r.bridge.Table()
		if err = r.bridge.Reload(ctx, cfg.Table); err == nil && before != nil {
			changes = cfg.Table.Changes(before)
		}
	}
	switch {
	case ctx.Err() != nil: // the end came in between
		return
	case err != nil:
		r.refused(err)
	default:
		r.taken(cfg, known, changes)
	}
	// Two tables and a file, which would count as ours until more is allocated.
	debug.FreeOSMemory()
	returnCode()
}

// loadAgain loads the file, unless what stands in its place now may never end.
func (r *reloading) loadAgain() (*configs.Config, error) {
	if err := configs.Regular(r.started.File); err != nil {
		return nil, err
	}
	defer tightenGarbage()()
	return r.load(r.started.File)
}

// known reports whether this is how the last reload ended.
func (r *reloading) known(cfg *configs.Config, err error) bool {
	if err != nil {
		return r.failure == err.Error()
	}
	return r.failure == "" && cfg.SameFile(r.current)
}

// refused says each fault in a line of its own.
func (r *reloading) refused(err error) {
	r.refuse("configuration not reloaded; the old one stays in force", err)
}

// refuse notes and logs that the file is not taken, with the outcome in the words of
// whoever asked.
func (r *reloading) refuse(outcome string, err error, details ...any) {
	r.failure = err.Error()
	r.bridge.ReloadFailed(err)
	faults := faultsOf(r.started.File, err)
	for _, f := range faults {
		args := append([]any{"err", f}, details...)
		if f.Hint != "" {
			args = append(args, "hint", f.Hint)
		}
		r.log.Error(outcome, args...)
	}
	status := outcome + ": " + faults[0].Error()
	if more := len(faults) - 1; more > 0 {
		status += ", and " + count(more, "fault") + " more"
	}
	r.manager.ready(func() string { return status })
}

// taken logs as a start does. unchanged: the file has the content that was in force
// already, which whoever edited it and sent a signal does not expect. rules are those that
// are not as before.
func (r *reloading) taken(cfg *configs.Config, unchanged bool, rules mapping.Changes) {
	r.current, r.failure = cfg, ""
	r.level.Set(cfg.Log.Level)
	outcome := "configuration reloaded"
	args := []any{"config", cfg.File, "send_rules", len(cfg.Table.Configured().Send()), "receive_rules", len(cfg.Table.Configured().Receive())}
	for _, c := range []struct {
		key   string
		names []string
	}{{"added", rules.Added}, {"removed", rules.Removed}, {"changed", rules.Changed}} {
		if len(c.names) > 0 {
			args = append(args, c.key, mapping.Listed(c.names, func(name string) string { return name }))
		}
	}
	if unchanged {
		outcome = "configuration unchanged; the file has the content that is in force"
		if hint := configs.MountedAlone(cfg.File); hint != "" {
			args = append(args, "hint", hint)
		}
	}
	r.log.Info(outcome, args...)
	sayWarnings(cfg.Warnings, r.log)
	if r.control != nil {
		if err := r.control.open(cfg.Control); err != nil {
			r.log.Error("the control socket stays where it was", "err", err)
		}
	}
	later := slices.DeleteFunc(cfg.Changed(r.started), func(path string) bool { return path == "log.level" || path == "control.listen" })
	if len(later) > 0 {
		r.log.Warn("keys have changed that take effect at the next start", "keys", strings.Join(later, ", "))
	}
	r.manager.ready(func() string { return sum(cfg.Table) })
	r.keep(cfg)
	sayFiles(cfg, r.log)
	if r.sayNetwork != nil {
		r.sayNetwork(cfg)
	}
	cfg.Release()
}
