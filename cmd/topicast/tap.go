package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/control"
	"topicast/bridge/tap"
	"topicast/mapping"
)

func newTapCommand() *cobra.Command {
	var o tapOptions
	c := &cobra.Command{
		Use:   "tap [TOPIC|GROUP:PORT]",
		Short: "Show what becomes of each message, as it happens",
		Long: `Follow the running topicast: each message and datagram with its rule, what was
decided, where it goes, the time that it took, and why it goes no further:

  sent       the kernel took the datagram
  published  the message was handed to the connection with the broker
  waiting    it cannot go on now; another line tells when it does
  filtered   the configuration asks not to carry it, and the reason
  dropped    it is lost, and the reason

TOPIC may have the wildcards of MQTT. GROUP:PORT is a group or a host, that of a
datagram which is sent, or was received; without a port it is any.

The stream pays nothing for it while nobody watches, and waits for nobody who does:
who is too slow misses events, and is told how many. Four may watch at a time.

` + controlUsage + `

Exit status: 0 when --count is reached, --for has passed (with no --count) or
Ctrl-C was pressed; 1 when --for has passed before --count was reached, or the
running topicast has ended; 64 wrong usage.`,
		Example: `  topicast tap
  topicast tap 'site/+/lamp/#' --payload
  topicast tap 239.10.3.7:30000 --count 5
  topicast tap --dropped
  topicast tap --rule lamps --json --payload=65535`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runTap(c.Context(), o, args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.rule, "rule", "", "only of the rule of this `name`")
	f.BoolVar(&o.lost, "dropped", false, "only what goes no further: dropped or filtered")
	f.IntVar(&o.payload, "payload", 0, "show the payloads too, at most so many `bytes` of each")
	f.Lookup("payload").NoOptDefVal = "64"
	f.BoolVar(&o.json, "json", false, "print one JSON object a line; payloads are base64")
	f.IntVar(&o.count, "count", 0, "stop after `n` events; 0: never")
	f.DurationVar(&o.length, "for", 0, "stop after this time; 0s: never")
	o.addFlags(f)
	return c
}

type tapOptions struct {
	controlOptions
	rule    string
	lost    bool
	payload int
	json    bool
	count   int
	length  time.Duration
}

// watch is what is asked of the running bridge.
func (o *tapOptions) watch(args []string) (w control.Watch, err error) {
	switch {
	case o.count < 0:
		return w, usageError(fmt.Errorf("--count %d: want 0 or more", o.count))
	case o.length < 0:
		return w, usageError(fmt.Errorf("--for %v: want 0s or more", o.length))
	case o.payload < 0:
		return w, usageError(fmt.Errorf("--payload %d: want 0 or more", o.payload))
	}
	w = control.Watch{Rule: o.rule, Lost: o.lost, Payload: o.payload}
	if len(args) == 0 {
		return w, nil
	}
	if isAddress(args[0]) {
		w.To = args[0]
		return w, nil
	}
	if host, port, err := net.SplitHostPort(args[0]); err == nil && isAddress(host) {
		return w, usageError(fmt.Errorf("%q: the port %q is not a number from 0 to 65535", args[0], port))
	}
	f, err := mapping.ParseFilter(args[0])
	if err != nil {
		return w, usageError(fmt.Errorf("%q is neither a topic filter nor an address: %w", args[0], err))
	}
	w.Topic = f.String()
	return w, nil
}

func isAddress(s string) bool {
	_, port := netip.ParseAddrPort(s)
	_, address := netip.ParseAddr(s)
	return port == nil || address == nil
}

func runTap(ctx context.Context, o tapOptions, args []string, out, errOut io.Writer) error {
	w, err := o.watch(args)
	if err != nil {
		return err
	}
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := endAfter(ctx, o.length)
	defer cancel()
	w.Began = func() { fmt.Fprintf(errOut, "watching the topicast at %s\n", c.Path) }
	seen, print := 0, o.printer(out)
	var failed error
	err = c.Watch(ctx, w, func(e *tap.Event, missed uint64) bool {
		if missed > 0 {
			o.printMissed(missed, out, errOut)
			return true
		}
		seen++
		failed = print(e)
		return failed == nil && (o.count == 0 || seen < o.count)
	})
	switch {
	case failed != nil:
		return fmt.Errorf("write the output: %w", failed)
	case errors.Is(err, context.DeadlineExceeded) && o.count > 0:
		return fmt.Errorf("%d of %s in %v", seen, count(o.count, "event"), o.length)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil
	case err != nil:
		return withRules(err)
	}
	return nil
}

func (o *tapOptions) printMissed(n uint64, out, errOut io.Writer) {
	if o.json {
		json.NewEncoder(out).Encode(control.Missed{Missed: n})
		return
	}
	printNote(errOut, fmt.Sprintf("%s missed, since they came faster than they could be shown; a topic, a group or --rule narrows them", count(int(n), "event")))
}

// printer prints an event.
func (o *tapOptions) printer(out io.Writer) func(*tap.Event) error {
	if o.json {
		var line []byte
		return func(e *tap.Event) error {
			line = append(e.AppendJSON(line[:0]), '\n')
			_, err := out.Write(line)
			return err
		}
	}
	return func(e *tap.Event) error {
		_, err := fmt.Fprintln(out, eventLine(e))
		return err
	}
}

// eventLine is an event for people: what comes from where it comes from to where it goes.
func eventLine(e *tap.Event) string {
	from, to := printable(e.Topic), addressText(e.To)
	switch e.Direction {
	case tap.Receive:
		from, to = to, from
	case tap.Answer: // from whom it came, or was to come, to where it is published
		if !e.Source.IsValid() {
			from, to = to, ""
		} else {
			from = addressText(e.Source)
		}
		to = cmp.Or(printable(e.AnswerTopic), to)
	}
	words := []string{e.Time.Local().Format("15:04:05.000000"), fmt.Sprintf("%-9s", e.Decision), orDash(printable(e.Rule))}
	if from != "" || to != "" {
		words = append(words, orDash(from)+" -> "+orDash(to))
	}
	switch {
	case e.Direction == tap.Answer:
		if e.Topic != "" {
			words = append(words, "for "+printable(e.Topic))
		}
	case e.Source.IsValid():
		words = append(words, "from "+e.Source.String())
	}
	if e.Interface != "" {
		words = append(words, "on "+printable(e.Interface))
	}
	if e.Count > 0 {
		words = append(words, count(int(e.Count), "message"))
	} else {
		words = append(words, count(e.Bytes, "byte"))
	}
	if e.Latency > 0 {
		words = append(words, shortTime(e.Latency))
	}
	if why := strings.TrimPrefix(e.Reason+": "+e.Detail, ": "); e.Reason != "" || e.Detail != "" {
		words = append(words, strings.TrimSuffix(printable(why), ": "))
	}
	line := strings.Join(words, "  ")
	if len(e.Payload) > 0 {
		line += "  " + printable(string(e.Payload))
		if len(e.Payload) < e.Bytes {
			line += "..."
		}
	}
	return line
}

func addressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortTime is a duration in three digits, or a few more.
func shortTime(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}
