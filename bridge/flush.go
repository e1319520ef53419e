package bridge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/mapping"
)

// flushPatience is how long is waited for what is being passed on just now.
const flushPatience = 3 * time.Second

// Flush discards what waits for the rules of a name, in memory and on disk, or with all for every
// rule, and counts it as lost. A name may be that of a rule which the configuration has no more, of
// which there is something on disk. by is whoever asked.
func (b *Bridge) Flush(name string, all bool, by string) (flushed []account.Flushed, err error) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	var unused []string
	if b.options.Spool.On != nil {
		unused = slices.Concat(b.send.Unused(), b.receive.Unused())
	}
	if !all {
		_, err := b.rulesOf(name)
		if err != nil && !slices.Contains(unused, name) {
			if near := mapping.Near(name, unused); near != "" {
				return nil, fmt.Errorf("there is no rule %q; did you mean %q?", name, near)
			}
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	wanted := func(rule, common string) bool { return all || rule == name || common == name }
	g, began := b.current(), time.Now()
	for _, r := range g.send.Rules {
		if wanted(r.Name, r.Common) {
			flushed = append(flushed, b.send.Flush(ctx, r, began))
		}
	}
	for _, r := range g.receive.Rules {
		if wanted(r.Name, r.Common) {
			flushed = append(flushed, b.receive.Flush(ctx, r, began))
		}
	}
	slices.Sort(unused)
	for _, rule := range slices.Compact(unused) {
		if wanted(rule, rule) {
			if n := b.send.FlushUnused(rule) + b.receive.FlushUnused(rule); n > 0 {
				flushed = append(flushed, account.Flushed{Rule: rule, Disk: n})
			}
		}
	}
	for _, f := range flushed {
		if n := f.Memory + f.Disk; n > 0 {
			b.log.Warn("what waited for a rule was discarded, as it was asked to", "rule", f.Rule, "memory", f.Memory, "disk", f.Disk, "by", by)
		}
	}
	return flushed, nil
}
