package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/mapping"
)

// Rules that are switched off while the bridge runs, by their names, until they are switched on or
// the bridge ends. A disabled rule is one of the table all the same, so that what waits for it stays: its
// messages have no target, its binding is never opened, its groups are left. To switch is to put the
// table that is in force to work anew, as a reload does it, so that enabled rules do not notice.

// Disable switches the rules of a name off: of a rule with several interfaces all, or one, as
// NAME@INTERFACE. by is whoever asked. It returns those that are disabled now and were not.
func (b *Bridge) Disable(name, by string) (rules []string, err error) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	all, err := b.rulesOf(name)
	if err != nil {
		return nil, err
	}
	var already *account.Disabled
	for _, r := range all {
		if d := b.isDisabled(r.name, r.common); d == nil {
			rules = append(rules, r.name)
		} else if already == nil {
			already = d
		}
	}
	if len(all) > 0 && rules == nil {
		return nil, fmt.Errorf("the rule %q is disabled already, by %s since %s; topicast enable has it go on",
			name, already.By, already.Since.UTC().Format(time.RFC3339))
	}
	before := maps.Clone(b.disabled)
	if b.disabled == nil {
		b.disabled = make(map[string]*account.Disabled)
	}
	b.disabled[name] = &account.Disabled{Since: time.Now(), By: by}
	if err := b.switched(before); err != nil {
		return nil, err
	}
	b.log.Warn("rule disabled, as it was asked to; it is until it is enabled or topicast starts again", "rule", name, "by", by)
	return rules, nil
}

// Enable switches the rules of a name on again, and returns them.
func (b *Bridge) Enable(name, by string) (rules []string, err error) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	all, err := b.rulesOf(name)
	if err != nil {
		return nil, err
	}
	before := maps.Clone(b.disabled)
	for _, r := range all {
		if b.disabled[r.common] != nil && r.common != name {
			return nil, fmt.Errorf("the rule %q is disabled as a whole: enable %s", name, r.common)
		}
		if b.isDisabled(r.name, r.common) != nil {
			rules = append(rules, r.name)
		}
		delete(b.disabled, r.name)
	}
	delete(b.disabled, name)
	if len(b.disabled) == len(before) {
		return nil, fmt.Errorf("the rule %q is not disabled", name)
	}
	if err := b.switched(before); err != nil {
		return nil, err
	}
	b.log.Info("rule enabled, as it was asked to", "rule", name, "by", by)
	return rules, nil
}

// switched puts the table to work with what is disabled now. Where that fails it stays as it was
// before. Callers hold reloadMu.
func (b *Bridge) switched(before map[string]*account.Disabled) error {
	if b.running == nil {
		b.disabled = before
		return errors.New("the bridge is not running")
	}
	table := b.current().table
	if err := b.replace(b.running.ctx, table); err != nil {
		b.disabled = before
		return err
	}
	return b.session.SetSubscriptions(b.subscriptions(table))
}

// Known returns an error where the configuration in force has no rule of a name, of either direction.
func (b *Bridge) Known(name string) error {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	_, err := b.rulesOf(name)
	return err
}

// namedRule is a rule of either direction.
type namedRule struct{ name, common string }

// rulesOf returns the rules at work that have a name; none, and no error, where the configuration has the
// rule but this host none of its interfaces. Callers hold reloadMu.
func (b *Bridge) rulesOf(name string) (rules []namedRule, err error) {
	table := b.current().table
	var known []string
	note := func(r namedRule) {
		known = append(known, r.name)
		if r.name == name || r.common == name {
			rules = append(rules, r)
		}
	}
	for _, r := range table.Send() {
		note(namedRule{r.Name, r.Common})
	}
	for _, r := range table.Receive() {
		note(namedRule{r.Name, r.Common})
	}
	configured := configuredNames(table)
	if len(rules) > 0 || slices.Contains(configured, name) {
		return rules, nil
	}
	err = fmt.Errorf("there is no rule %q", name)
	if near := mapping.Near(name, append(known, configured...)); near != "" {
		err = fmt.Errorf("%w; did you mean %q?", err, near)
	}
	return nil, err
}

// configuredNames are those of the rules as the configuration has them.
func configuredNames(table *mapping.Table) (names []string) {
	for _, r := range table.Configured().Send() {
		names = append(names, r.Name)
	}
	for _, r := range table.Configured().Receive() {
		names = append(names, r.Name)
	}
	return names
}

// isDisabled says since when and by whom a rule is switched off; nil: it is not. Callers hold reloadMu.
func (b *Bridge) isDisabled(name, common string) *account.Disabled {
	if len(b.disabled) == 0 {
		return nil
	}
	if d := b.disabled[common]; d != nil {
		return d
	}
	return b.disabled[name]
}

// forgetDisabled forgets rules that a reload has removed: should one of that name come again, it
// works. Callers hold reloadMu.
func (b *Bridge) forgetDisabled() {
	if len(b.disabled) == 0 {
		return
	}
	names := configuredNames(b.current().table)
	maps.DeleteFunc(b.disabled, func(name string, _ *account.Disabled) bool {
		common, _, _ := strings.Cut(name, "@")
		return !slices.Contains(names, name) && !slices.Contains(names, common)
	})
}

// withoutDisabled leaves out the shared subscriptions that only disabled rules have, so that the
// broker gives their messages to others. What else they are subscribed to comes all the same, and is
// counted. Callers hold reloadMu, or the bridge does not run yet.
func (b *Bridge) withoutDisabled(table *mapping.Table, subs []mapping.Subscription) []mapping.Subscription {
	if len(b.disabled) == 0 {
		return subs
	}
	return slices.DeleteFunc(subs, func(s mapping.Subscription) bool {
		filter := mapping.Unshared(s.Filter)
		if filter == s.Filter {
			return false
		}
		of, err := mapping.ParseFilter(filter)
		if err != nil {
			return false
		}
		return !slices.ContainsFunc(table.Send(), func(r mapping.SendRule) bool {
			return r.Share != "" && strings.HasPrefix(s.Filter, "$share/"+r.Share+"/") && of.Covers(r.Filter) && b.isDisabled(r.Name, r.Common) == nil
		})
	})
}
