package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/send"
	"topicast/configs"
)

func newStatusCommand() *cobra.Command {
	o := statusOptions{limit: 15}
	c := &cobra.Command{
		Use:   "status [TEXT]",
		Short: "Show what the running bridge does",
		Long: `Ask the running topicast how it is: the broker, what waits, and the rules, those
that lose messages first, then those that wait for something. With TEXT only rules
that have it in their name, filter, topic, group, interface or source.

A rule is losing when it dropped something in the last minute, and idle when nothing
came in it. IN counts messages of the broker, of a receive rule datagrams; OUT what
left, of a receive rule what the broker has.

` + controlUsage + `

Exit status: 0 if messages can flow, 1 if not or if there is no running topicast,
64 wrong usage. So it serves as the health check of a container.`,
		Example: `  topicast status
  topicast status lamps
  topicast status --json
  topicast status --control /run/topicast/control.sock`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.limited = c.Flags().Changed("limit")
			return runStatus(c.Context(), o, strings.Join(args, ""), c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.IntVar(&o.limit, "limit", o.limit, "how many rules at most; 0: all")
	f.BoolVar(&o.json, "json", false, "print what /status of the web pages has")
	o.addFlags(f)
	return c
}

type statusOptions struct {
	controlOptions
	limit   int
	limited bool // --limit is given
	json    bool
}

func runStatus(ctx context.Context, o statusOptions, text string, out io.Writer) error {
	if o.limit < 0 {
		return usageError(fmt.Errorf("--limit %d: want 0 or more", o.limit))
	}
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	query := url.Values{"sort": {"trouble"}}
	if text != "" {
		query.Set("match", text)
	}
	if o.limit > 0 {
		query.Set("limit", strconv.Itoa(o.limit))
	}
	s, err := statusOf(ctx, c, query)
	switch {
	case err != nil:
		return err
	case !o.json:
		err = printStatus(out, &s, text, time.Now())
	case text == "" && !o.limited: // all of it, as /status has it
		err = c.Status(ctx, nil, out)
	default:
		err = c.Status(ctx, query, out)
	}
	if err == nil && !s.Ready {
		return errSaid
	}
	return err
}

// printStatus prints a screenful, of the rules with match in them.
func printStatus(out io.Writer, s *bridge.Status, match string, now time.Time) error {
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	w := &plainLines{w: out}
	w.line("topicast %s, %s, up %s", s.Version, ready, forTime(now.Sub(s.Started)))
	for _, why := range s.Waiting {
		w.line("         %s", why)
	}
	w.line("broker   %s", brokerLine(&s.Broker, now))
	w.line("waiting  %s", waitingLine(s))
	if r := s.Reload; r != nil && !r.OK {
		w.line("reload   the old configuration is in force:")
		for fault := range strings.SplitSeq(r.Error, "\n") {
			w.line("         %s", fault)
		}
	}
	w.line("rules    %s", summaryLine(&s.Summary))
	if s.NoRule > 0 {
		w.line("no rule  %s matched none", count(int(s.NoRule), "message"))
	}
	for _, c := range s.Conditions {
		if c.State == account.StateDegraded && c.Name != "rule" { // why it is not ready stands above, what is of a rule below
			w.line("degraded %s", strings.Replace(c.String(), string(c.State)+": ", "", 1))
		}
	}
	rows := statusRows(s, now)
	if len(rows) == 0 && match != "" {
		w.line("no rule has %q in its name, filter, topic, group, interface or source", match)
	}
	if len(rows) == 0 {
		return w.err
	}
	w.line("")
	name := len("RULE")
	for _, r := range rows {
		name = max(name, utf8.RuneCountInString(r.name))
	}
	name = min(name, 28) // of a longer one the numbers stand further right
	format := "%-" + strconv.Itoa(name) + "s  %-8s %10s %10s %8s %8s"
	w.line(format, "RULE", "STATE", "IN", "OUT", "DROPPED", "WAITING")
	for _, r := range rows {
		w.line(format, r.name, r.state, brief(r.in), brief(r.out), brief(r.dropped), brief(uint64(r.waiting)))
		if r.why != "" {
			w.line("  %s", r.why)
		}
	}
	if more := s.Summary.Matched - len(rows); more > 0 {
		w.line("and %d more; --limit 0 shows all", more)
	}
	return w.err
}

// plainLines prints lines. None is cut: the cause stands at the end of many a reason.
type plainLines struct {
	w   io.Writer
	err error
}

func (w *plainLines) line(format string, args ...any) {
	text := strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ")
	if _, err := fmt.Fprintln(w.w, text); err != nil && w.err == nil {
		w.err = err
	}
}

func brokerLine(b *bridge.BrokerStatus, now time.Time) string {
	if !b.Connected {
		text := "not connected"
		if !b.Since.IsZero() {
			text += " for " + forTime(now.Sub(b.Since))
		}
		if b.Error != "" {
			text += ": " + b.Error
		}
		return text
	}
	text := fmt.Sprintf("%s, MQTT %s, connected for %s, %s", b.URL, b.Protocol, forTime(now.Sub(b.Since)), count(b.Subscriptions, "subscription"))
	if n := len(b.Refused) + b.MoreRefused; n > 0 {
		text += fmt.Sprintf(", %d refused", n)
	}
	return text
}

func waitingLine(s *bridge.Status) string {
	text := fmt.Sprintf("%d in memory (%s of %s)", s.Queue.Messages, configs.Size(s.Queue.Bytes), configs.Size(s.Queue.Size))
	switch {
	case s.Spool == nil:
	case s.Spool.Error != "":
		text += "; the spool: " + s.Spool.Error
	default:
		text += fmt.Sprintf(", %d on disk (%s of %s)", s.Spool.Messages, configs.Size(s.Spool.Bytes), configs.Size(s.Spool.Size))
	}
	return text
}

func summaryLine(s *bridge.Summary) string {
	text := strconv.Itoa(s.Rules)
	for _, of := range []struct {
		n    int
		word string
	}{{s.Losing, "losing"}, {s.Pending, "pending"}, {s.Degraded, "degraded"}, {s.Disabled, "disabled"}, {s.Up, "up"}, {s.Idle, "idle"}} {
		if of.n > 0 {
			text += fmt.Sprintf(", %d %s", of.n, of.word)
		}
	}
	return strings.Replace(text, ",", ":", 1)
}

// statusRow is a rule.
type statusRow struct {
	name, state, why string
	in, out, dropped uint64
	waiting, place   int
}

func statusRows(s *bridge.Status, now time.Time) (rows []statusRow) {
	for i := range s.Rules {
		r := &s.Rules[i]
		row := newRow(r.Name, r.State, r.Reason, r.Received, r.Sent, r.Drops, &r.Lately, now)
		if r.Down > 0 && !(len(r.HostsDown) > 0 && strings.Contains(row.why, r.HostsDown[0].Host)) { // else its reason says so
			row.why = strings.TrimPrefix(row.why+"; "+downText(r, now), "; ")
		}
		rows = append(rows, row)
	}
	for i := range s.Receive {
		r := &s.Receive[i]
		rows = append(rows, newRow(r.Name, r.State, r.Reason, r.Received, r.Published, r.Drops, &r.Lately, now))
	}
	slices.SortFunc(rows, func(a, b statusRow) int { return cmp.Compare(a.place, b.place) })
	return rows
}

// downShown is how many hosts of a rule are named that do not answer.
const downShown = 4

// downText says which hosts of a rule do not answer on their link, those first that do not for the
// longest, though the rule as a whole is up.
func downText(r *send.Status, now time.Time) string {
	var hosts []string
	for _, h := range r.HostsDown[:min(len(r.HostsDown), downShown)] {
		hosts = append(hosts, fmt.Sprintf("%s (for %s)", h.Host, forTime(now.Sub(h.Since))))
	}
	text := strings.Join(hosts, ", ")
	if more := r.Down - len(hosts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if r.Down == 1 {
		return "a host does not answer: " + text
	}
	return fmt.Sprintf("%d hosts do not answer: %s", r.Down, text)
}

func newRow(name string, state account.State, reason string, in, out uint64, drops map[string]uint64, l *account.Lately, now time.Time) statusRow {
	r := statusRow{name: name, state: string(state), why: reason, in: in, out: out, waiting: l.WaitingMemory + l.WaitingDisk, place: l.Place}
	var words []string
	for _, why := range slices.Sorted(maps.Keys(drops)) {
		r.dropped += drops[why]
		words = append(words, fmt.Sprintf("%s %d", why, drops[why]))
	}
	lately := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) < time.Minute }
	switch {
	case state == account.StateDisabled:
	case lately(l.LastDrop):
		r.state = "losing"
		r.why = strings.Join(words, ", ")
		if reason != "" {
			r.why = reason + "; " + r.why
		}
	case state == account.StateUp && !lately(l.LastReceived):
		r.state = "idle"
	}
	return r
}

// brief is a number of at most six characters.
func brief(n uint64) string {
	switch {
	case n < 1_000_000:
		return strconv.FormatUint(n, 10)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n < 1_000_000_000_000:
		return fmt.Sprintf("%.1fG", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1fT", float64(n)/1e12)
}

// forTime is how long something has been so, in its two largest units.
func forTime(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd %dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh %dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm %ds", minutes, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}
