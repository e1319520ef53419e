package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/bridge/web"
	"topicast/configs"
	"topicast/mapping"
)

// Who listens, for explain: only what is known at once. The kernel knows of a bridge; of others the
// running topicast does, where the rule has members. It knows too which rules are disabled.

// runningWait is how long explain waits for the running topicast.
const runningWait = time.Second

// listeners tells who has joined a group that a rule sends to.
type listeners struct {
	bridge func(multicast.Interface) (*multicast.Bridge, error)
	asked  bool
	known  map[string]runningRule // by the name of the rule; nil: the running topicast does not answer
	ask    func() map[string]runningRule
}

// runningRule is what the running topicast knows of a rule.
type runningRule struct {
	members  []members.Answer
	disabled string // since when, and by whom; "": it is not
}

func newListeners(ctx context.Context, cfg *configs.Config) *listeners {
	return &listeners{bridge: multicast.ReadBridge, ask: func() map[string]runningRule {
		if cfg.Web.Listen == "" {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, runningWait)
		defer cancel()
		s, err := web.Fetch(ctx, cfg.Web.Listen)
		if err != nil {
			return nil
		}
		known := make(map[string]runningRule)
		for _, r := range s.Rules {
			is := runningRule{members: r.Members}
			if r.State == account.StateDisabled {
				is.disabled = fmt.Sprintf("since %s in the topicast that runs: %s", r.Since.Local().Format(time.DateTime), r.Reason)
			}
			known[r.Name] = is
		}
		return known
	}}
}

// running is what the running topicast knows of a rule, if it answers and has the rule.
func (l *listeners) running(name string) runningRule {
	if !l.asked {
		l.known, l.asked = l.ask(), true
	}
	return l.known[name]
}

// explainDisabled says that the running topicast has the rule switched off, if it has.
func (h *host) explainDisabled(line func(key, format string, args ...any), rule string) {
	if h.listeners == nil {
		return
	}
	if text := h.listeners.running(rule).disabled; text != "" {
		line("disabled", "%s", text)
	}
}

// of says who has joined a group, in a sentence; "": nobody who is asked knows of such.
func (l *listeners) of(r *mapping.SendRule, p place, group netip.Addr) string {
	on := multicast.Interface{Name: p.source.Interface, Index: p.source.Index}
	if b, err := l.bridge(on); err == nil && b != nil && b.Snooping {
		k := members.Knowledge{On: on, Bridge: b}
		return k.Of(group, time.Now()).String()
	}
	if !r.Members {
		return ""
	}
	answers := l.running(r.Name).members
	if l.known == nil {
		return "the running topicast knows, and does not answer (web.listen)"
	}
	i := slices.IndexFunc(answers, func(a members.Answer) bool { return a.Group == group.String() })
	switch {
	case i >= 0:
		return answers[i].String()
	case len(answers) == 0:
		return "the topicast that runs does not watch this rule: its configuration is another, or older"
	case answers[0].State != members.Some:
		return answers[0].String()
	}
	return "of " + group.String() + " nobody is known; of the rule's other groups there are members"
}
