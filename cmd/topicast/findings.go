package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// finding is something about a key that only this host can tell.
type finding struct {
	path string // of the key: send[3].source, spool.max_size
	err  error
	hint string
	// waits is whether the bridge waits for it, and says so; near is the name that was
	// probably meant, which the bridge does not know.
	waits bool
	near  string
}

// examineAll compares a configuration with this host. Faults do not mend themselves;
// what a warning is about may.
func (h *host) examineAll(cfg *configs.Config) (faults, warnings configs.Errors) {
	fileFaults, fileWarnings := cfg.ExamineFiles(time.Now())
	netFaults, netWarnings := h.examineNetwork(cfg)
	webFaults := located(cfg, h.examineWeb(cfg.Web))
	return slices.Concat(fileFaults, webFaults, netFaults), slices.Concat(fileWarnings, netWarnings)
}

// examineWeb finds an address of the status page that this host does not have: the one
// thing of a host without which run does not start.
func (h *host) examineWeb(c configs.Web) []finding {
	on, err := netip.ParseAddrPort(c.Listen)
	if err != nil || on.Addr().IsUnspecified() { // a name, every address, or off
		return nil
	}
	if _, err = multicast.ResolveInterface(on.Addr().String(), h.interfaces); err == nil || errors.Is(err, multicast.ErrAmbiguous) {
		return nil
	}
	return []finding{{
		path: "web.listen",
		err:  fmt.Errorf("%w, and topicast run does not start without its status page", err),
		hint: fmt.Sprintf("write :%d for every address of this host, 127.0.0.1:%[1]d for programs on it, \"\" for off", on.Port()),
	}}
}

// examineNetwork looks at what the rules name of this host.
func (h *host) examineNetwork(cfg *configs.Config) (faults, warnings configs.Errors) {
	f, w := h.examineRules(cfg.Table)
	return located(cfg, f), located(cfg, w)
}

func (h *host) examineRules(t *mapping.Table) (faults, warnings []finding) {
	h.table = t
	sendFaults, sendWarnings := h.examine(t.Send())
	receiveFaults, receiveWarnings := h.examineReceive(t.Receive())
	return slices.Concat(sendFaults, receiveFaults), slices.Concat(sendWarnings, receiveWarnings, h.idle(t), h.examineLimits(t))
}

// located says where the key of each finding is given.
func located(cfg *configs.Config, findings []finding) (list configs.Errors) {
	for _, f := range findings {
		list = append(list, cfg.Fault(f.path, f.err, f.hint))
	}
	return list
}

// sayFiles logs what check says of the files and folders.
func sayFiles(cfg *configs.Config, log *slog.Logger) {
	faults, warnings := cfg.ExamineFiles(time.Now())
	sayFindings(faults, warnings, log)
}

// sayNetwork logs what check says of the rules on this host. That one waits, and for
// what, the bridge says by itself, in the same words. Notes are said the first time
// only: no reload changes them.
func sayNetwork(cfg *configs.Config, first bool, log *slog.Logger) {
	h, err := newHost()
	if err != nil {
		return // which the bridge says too
	}
	h.know(cfg) // as the interfaces are now
	faults, warnings := h.examineRules(cfg.Table)
	warnings = slices.DeleteFunc(warnings, func(f finding) bool { return f.waits && f.near == "" })
	for i := range warnings {
		if f := &warnings[i]; f.waits {
			f.err = fmt.Errorf("no interface has this name; did you mean %s?", f.near)
		}
	}
	sayFindings(located(cfg, faults), located(cfg, warnings), log)
	if first {
		for _, n := range located(cfg, append(h.examineBuffers(cfg.Table), h.examineSharers(cfg.Table.Receive())...)) {
			log.Info("this host", "note", n, "hint", n.Hint)
		}
	}
}

// sayWarnings logs what check warns of in the file and the variables.
func sayWarnings(warnings configs.Errors, log *slog.Logger) {
	for _, w := range warnings {
		if w.Hint == "" {
			log.Warn(w.Error())
		} else {
			log.Warn(w.Error(), "hint", w.Hint)
		}
	}
}

func sayFindings(faults, warnings configs.Errors, log *slog.Logger) {
	say := func(e *configs.Error, level func(msg string, args ...any)) {
		args := []any{"err", e}
		if e.Hint != "" {
			args = append(args, "hint", e.Hint)
		}
		level("this host is not as the configuration has it", args...)
	}
	for _, f := range faults {
		say(f, log.Error)
	}
	for _, w := range warnings {
		say(w, log.Warn)
	}
}
