package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/pflag"

	"topicast/configs"
)

// refusedAtStart is a file that could not be loaded, in whose place the last good
// configuration is.
type refusedAtStart struct {
	err  error
	kept configs.LastGood
}

// loadAtStart loads the configuration for a start, or in place of one with faults the
// last good one; then it says why.
func loadAtStart(ctx context.Context, file string, flags *pflag.FlagSet) (*configs.Config, *refusedAtStart, error) {
	cfg, err := loadHere(ctx, file, flags)
	if err == nil || errors.Is(err, errEnded) {
		return cfg, nil, err
	}
	cfg, kept, keptErr := configs.LoadLastGood(file, flags)
	switch {
	case keptErr == nil:
		nameInterfaces(cfg)
		return cfg, &refusedAtStart{err, kept}, nil
	case errors.Is(keptErr, fs.ErrNotExist):
		return nil, nil, err
	}
	// A flag or a variable with a fault spoils both, and is said once.
	faults := faultsOf(file, err)
	for _, f := range faultsOf(kept.Path, keptErr) {
		if !says(faults, f) {
			f.Err = fmt.Errorf("nor is the last good configuration of any use: %w", f.Err)
			faults = append(faults, f)
		}
	}
	return nil, nil, faults
}

func says(faults configs.Errors, fault *configs.Error) bool {
	for _, f := range faults {
		if f.Error() == fault.Error() {
			return true
		}
	}
	return false
}

// refusedAtStart tells everybody that the last good configuration is in force.
func (r *reloading) refusedAtStart(refused *refusedAtStart) {
	r.refuse("the configuration is refused; started with the last good one", refused.err,
		"last_good", refused.kept.Path, "kept_at", refused.kept.At.Format(time.RFC3339))
}

// keep keeps the configuration for a start with a faulty file. It is no reason to
// stop if that fails.
func (r *reloading) keep(cfg *configs.Config) {
	dir := r.started.StateDir()
	if dir == "" {
		return
	}
	if err := cfg.Keep(dir); err != nil {
		r.log.Warn("cannot keep this configuration as the last good one; a start with a faulty file would fail", "dir", dir, "err", err)
	}
}
