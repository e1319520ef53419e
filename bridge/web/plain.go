package web

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// What the page shows in a browser without scripts. It loads itself anew now and then.

// plainRow is what it has of a rule, of either direction.
type plainRow struct {
	name, direction, says, reason string
	state                         account.State
	since                         time.Time
	in, out                       uint64
	drops, filtered               map[string]uint64
	account.Lately
}

// writePlain writes the body of the page.
func writePlain(out io.Writer, q bridge.Query, s *bridge.Status, sends iter.Seq[send.Status], receives iter.Seq[receive.Status]) {
	w := plain{bufio.NewWriter(out), time.Now()}
	defer w.Flush()
	all := plainRows(sends, receives)
	ready, css := "ready", "good"
	if !s.Ready {
		ready, css = "not ready", "bad"
	}
	w.markup(`<div class="plain"><header><h1>topicast</h1><span>`)
	w.element("bdi", "name", s.Host)
	w.markup(" ")
	w.element("bdi", "dim", s.Broker.ClientID)
	w.markup("</span>")
	w.element("span", "pill "+css, ready)
	w.element("span", "dim", "version "+s.Version+", running for "+w.ago(s.Started)+"; as of "+w.now.UTC().Format("15:04:05")+" UTC, renewed every 10 seconds, and live with JavaScript")
	w.markup("</header>")
	if len(s.Waiting) > 0 {
		w.markup(`<ul id="waiting">`)
		for _, why := range s.Waiting {
			w.element("li", "", why)
		}
		w.markup("</ul>")
	}
	w.facts(s)
	w.form(q)
	w.element("p", "dim", fmt.Sprintf("showing %d of %d rules", len(all), s.Summary.Matched))
	w.markup(`<table><colgroup><col class="state"><col><col class="n"><col class="n"><col class="last"><col class="waiting"><col class="drops"></colgroup>`)
	w.markup(`<thead><tr><th scope="col">State</th><th scope="col">Rule</th><th scope="col" class="n">In</th><th scope="col" class="n">Out</th><th scope="col" class="n">Last</th><th scope="col" class="n">Waiting</th><th scope="col">Dropped, filtered</th></tr></thead><tbody>`)
	for i := range all {
		w.row(&all[i])
	}
	w.markup(`</tbody></table><footer class="dim"><a href="/status">/status</a> · <a href="/metrics">/metrics</a> · <a href="/readyz">/readyz</a> · <a href="/healthz">/healthz</a></footer></div>`)
}

func plainRows(sends iter.Seq[send.Status], receives iter.Seq[receive.Status]) (all []plainRow) {
	for r := range sends {
		says := r.Filter + " → " + cmp.Or(r.Group, r.Host)
		if r.Interface != "" {
			says += " on " + r.Interface
		}
		if r.Source != "" {
			says += " from " + r.Source
		}
		all = append(all, plainRow{r.Name, "send", says, r.Reason, r.State, r.Since, r.Received, r.Sent, r.Drops, r.Filtered, r.Lately})
	}
	for r := range receives {
		heard, from := few(r.Groups), cmp.Or(few(r.Sources), "anybody")
		if r.Port != 0 {
			heard = fmt.Sprintf("port %d", r.Port)
		}
		says := heard + " on " + r.Interface + " from " + from + " → " + r.Topic
		all = append(all, plainRow{r.Name, "receive", says, r.Reason, r.State, r.Since, r.Received, r.Published, r.Drops, r.Filtered, r.Lately})
	}
	slices.SortStableFunc(all, func(a, b plainRow) int { return a.Place - b.Place })
	return all
}

// few are the first of a list, and how many more there are.
func few(list []string) string {
	const most = 4
	if more := len(list) - most; more > 0 {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, ", ")
}

// plain writes HTML. What comes from elsewhere goes through text alone.
type plain struct {
	*bufio.Writer
	now time.Time
}

func (w plain) markup(s string) { w.WriteString(s) }

func (w plain) text(s string) { w.WriteString(html.EscapeString(visible(s))) }

// visible shows what turns the direction of writing, or cannot be seen, as what it is: a topic may have
// it in order to look like another.
func visible(s string) string {
	hidden := func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff
	}
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func (w plain) element(name, class, s string) {
	w.markup("<" + name + ` class="` + class + `">`)
	w.text(s)
	w.markup("</" + name + ">")
}

// facts writes what is not of one rule.
func (w plain) facts(s *bridge.Status) {
	fact := func(name, class, value string) {
		w.markup("<div>")
		w.element("dt", "", name)
		w.element("dd", class, value)
		w.markup("</div>")
	}
	w.markup("<dl>")
	if b := s.Broker; b.Connected {
		fact("Broker", "", "connected to "+b.URL+" for "+w.ago(b.Since))
	} else {
		fact("Broker", "bad", "not connected")
	}
	fact("Waiting in memory", "", fmt.Sprintf("%d (%s of %s)", s.Queue.Messages, size(s.Queue.Bytes), size(s.Queue.Size)))
	switch {
	case s.Spool == nil:
	case s.Spool.Error != "":
		fact("Waiting on disk", "bad", s.Spool.Error)
	default:
		fact("Waiting on disk", "", fmt.Sprintf("%d (%s of %s)", s.Spool.Messages, size(s.Spool.Bytes), size(s.Spool.Size)))
	}
	fact("Unacknowledged", "", strconv.Itoa(s.Broker.Outstanding))
	switch {
	case s.Reload == nil:
	case s.Reload.OK:
		fact("Configuration", "", "taken over "+w.ago(s.Reload.At)+" ago")
	default:
		fact("Configuration", "bad", "refused "+w.ago(s.Reload.At)+" ago; the one before it is in force: "+s.Reload.Error)
	}
	fact("Without a rule", "", grouped(s.NoRule))
	c := s.Summary
	fact("Rules", "", fmt.Sprintf("%d losing, %d pending, %d degraded, %d disabled, %d up, %d idle", c.Losing, c.Pending, c.Degraded, c.Disabled, c.Up, c.Idle))
	w.markup("</dl>")
}

// form is what narrows the page.
func (w plain) form(q bridge.Query) {
	w.markup(`<form action="/"><input type="search" name="match" aria-label="filter the rules" placeholder="name, topic, group, interface, source" value="`)
	w.text(q.Match)
	w.markup(`"> `)
	choice := func(name, label, chosen string, values []string) {
		w.markup(`<label class="dim">` + label + ` <select name="` + name + `">`)
		for _, v := range values {
			w.markup("<option")
			if v == chosen {
				w.markup(" selected")
			}
			w.markup(` value="` + v + `">` + cmp.Or(v, "any") + "</option>")
		}
		w.markup("</select></label> ")
	}
	choice("state", "state", q.State, append([]string{""}, bridge.Views()...))
	choice("sort", "order", q.Sort, bridge.Sorts())
	w.markup(`<button>show</button></form>`)
}

func (w plain) row(r *plainRow) {
	view := bridge.ViewOf(r.state, r.LastDrop, r.LastReceived, w.now)
	w.markup(`<tr class="` + view + `"><td class="state">`)
	w.element("span", "badge", view)
	w.element("span", "dim", w.ago(r.since))
	w.markup(`</td><td>`)
	w.element("span", "name", r.name)
	w.element("span", "tag", r.direction)
	w.element("code", "", r.says)
	if len(r.Settings) > 0 {
		w.element("code", "dim", strings.Join(r.Settings, ", "))
	}
	if r.reason != "" {
		w.element("span", "why", r.reason)
	}
	w.markup("</td>")
	cell := func(name, s string) {
		w.markup(`<td class="n" data-name="` + name + `">`)
		w.text(s)
		w.markup("</td>")
	}
	cell("In", grouped(r.in))
	cell("Out", grouped(r.out))
	cell("Last", w.ago(r.LastReceived))
	var waits []string
	if r.WaitingBytes > 0 {
		waits = append(waits, fmt.Sprintf("%d, %s", r.WaitingMemory, size(r.WaitingBytes)))
	}
	if r.WaitingDisk > 0 {
		waits = append(waits, fmt.Sprintf("%d on disk, %s", r.WaitingDisk, size(r.DiskBytes)))
	}
	cell("Waiting", strings.Join(waits, "; "))
	name := "Dropped" // where the table is too narrow for columns
	if len(r.drops) == 0 && len(r.filtered) > 0 {
		name = "Filtered"
	}
	w.markup(`<td class="lost" data-name="` + name + `">`)
	for _, why := range slices.Sorted(maps.Keys(r.drops)) {
		w.element("span", "reason", grouped(r.drops[why])+" "+why)
	}
	for _, why := range slices.Sorted(maps.Keys(r.filtered)) {
		w.element("span", "reason filtered", grouped(r.filtered[why])+" "+why)
	}
	w.markup("</td></tr>")
}

// ago is how long ago something was.
func (w plain) ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	switch s := max(0, int(w.now.Sub(t).Seconds())); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
	}
}

// grouped is a number with a comma after each three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
