package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"topicast/bridge"
	"topicast/bridge/multicast"
)

// Options say how Look looks.
type Options struct {
	Window time.Duration                                 // how long it listens
	Ask    func(context.Context) (*bridge.Status, error) // the running bridge; nil: none should run, or it cannot be asked
	At     string                                        // where it is asked
	Asked  bool                                          // one should run
	File   string                                        // the configuration; "": there is none
}

// Look takes two pictures of the host and listens between them.
func Look(ctx context.Context, subjects []*Subject, o Options) (*Snapshot, error) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Interfaces: interfaces, Sysctl: readSysctl, Window: o.Window}
	s.Daemon = Daemon{Asked: o.Asked, Off: o.Ask == nil, At: o.At}
	if info, err := os.Stat(o.File); err == nil && o.File != "" {
		s.FileTime = info.ModTime()
	}
	s.Rules, s.NoRules = readRuleset(ctx)
	for _, file := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} { // for root alone
		names, _ := os.ReadFile(file)
		s.Legacy = s.Legacy || len(names) > 0
	}
	probe(ctx, subjects)
	drops := readDrops()
	s.Before = readCounters()
	began := time.Now()
	subjects = listen(ctx, subjects, o.Window, func() {
		if o.Ask != nil {
			s.Daemon.Before, s.Daemon.Err = o.Ask(ctx)
		}
	}, func() {
		if o.Ask != nil && s.Daemon.Err == nil {
			s.Daemon.After, s.Daemon.Err = o.Ask(ctx)
		}
	})
	s.Now = time.Now()
	// Of the two differences the first is of the clock, the second of the monotonic one.
	s.Step = s.Now.Round(0).Sub(began.Round(0)) - s.Now.Sub(began)
	s.After, s.Drops = readCounters(), readDrops()
	for port := range s.Drops {
		s.Drops[port] -= min(s.Drops[port], drops[port])
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, one := range subjects {
		one.lookAround(ctx)
		if one.Found {
			s.Found = append(s.Found, one)
		}
	}
	return s, nil
}

// toolWait is how long a command that only prints may take.
const toolWait = 3 * time.Second

// readRuleset has nft print the rules of the firewall, which it does for root.
func readRuleset(ctx context.Context) (r *Ruleset, why string) {
	ctx, cancel := context.WithTimeout(ctx, toolWait)
	defer cancel()
	path, err := exec.LookPath("nft")
	if err != nil {
		// An ordinary user's PATH leaves it out.
		if path, err = exec.LookPath("/usr/sbin/nft"); err != nil {
			return nil, "the rules of the firewall: the command nft is not installed"
		}
	}
	out, err := exec.CommandContext(ctx, path, "--json", "list", "ruleset").Output()
	if err != nil {
		text := err.Error()
		if e, is := errors.AsType[*exec.ExitError](err); is {
			text, _, _ = strings.Cut(strings.TrimSpace(string(e.Stderr)), "\n")
		}
		return nil, "the rules of the firewall: nft list ruleset needs CAP_NET_ADMIN (" + text + "): run this as root"
	}
	if r, err = ParseRuleset(out); err != nil {
		return nil, "the rules of the firewall: " + err.Error()
	}
	return r, ""
}
