package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

func newListenCommand() *cobra.Command {
	o := listenOptions{format: formatText}
	c := &cobra.Command{
		Use:   "listen [GROUP:PORT]...",
		Short: "Print the datagrams of groups, or what comes to this host",
		Long: `Join groups on an interface and print each datagram that arrives: the time, the
sender's address and port, the group if there are several, the interface, the
size and the payload.

` + groupUsage + `
A range stands for all groups in it: 239.255.0.1-239.255.0.63:5568.

With --port it hears what comes to this host itself, unicast and broadcast, at that
port by the interface, and each line tells where it was sent to. Of unicast Linux
gives each datagram to one program: while this listens, others that have the port
may miss what they got, a running topicast as well.

Without --interface it is the one interface that is up, not the loopback and no
port of a bridge or member of a bond; of several, none is guessed.

Formats: text escapes what is not printable; hex is for bytes; json prints one
object a line, with payload where it is UTF-8 and payload_base64 where not.

Exit status: 0 when --count is reached, --for has passed (with no --count) or
Ctrl-C was pressed; 1 when --for has passed before --count was reached, or a
group cannot be joined; 64 wrong usage.`,
		Example: `  topicast listen 239.1.2.3:5000 --interface lo
  topicast listen 239.1.2.3:5000 --interface 127.0.0.1 --format json
  topicast listen 239.255.0.1-239.255.0.63:5568 239.1.2.3:5000 --interface lo
  topicast listen 239.1.2.3:5000 --interface lo --source 127.0.0.1 --for 1s
  topicast listen --port 6454 --interface lo`,
		RunE: func(c *cobra.Command, args []string) error {
			return runListen(c.Context(), o, args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.addFlags(c)
	return c
}

type listenOptions struct {
	on      string
	port    uint16 // 0: groups alone
	sources []netip.Addr
	count   int
	length  time.Duration
	format  string
}

func (o *listenOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.on, "interface", "", "the `name` of the interface to join on, or an address of it")
	f.Uint16Var(&o.port, "port", 0, "what comes to this host itself at this port, unicast and broadcast; 0: nothing")
	f.Func("source", "only what this `address` sends (a source-specific join); may be repeated", func(s string) error {
		a, err := parseAddress(s)
		if err != nil {
			return err
		}
		o.sources = append(o.sources, a)
		return nil
	})
	f.IntVar(&o.count, "count", 0, "stop after `n` datagrams; 0: never")
	f.DurationVar(&o.length, "for", 0, "stop after this time; 0s: never")
	f.StringVar(&o.format, "format", o.format, "how to print payloads: `text|hex|json`")
}

// endAfter is ctx that ends after a time; 0: not by itself.
func endAfter(ctx context.Context, length time.Duration) (context.Context, context.CancelFunc) {
	if length == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, length)
}

func runListen(ctx context.Context, o listenOptions, texts []string, out, errOut io.Writer) error {
	j, err := o.prepare(texts)
	if err != nil {
		return err
	}
	ctx, enough := endAfter(ctx, o.length)
	defer enough()
	p := &printer{out: out, format: o.format, on: j.on.Name, several: len(j.groups) > 1 || o.port != 0}
	t := &tally{printer: p, count: o.count, enough: enough}
	e, err := openGroupReaders(j.groups, j.on, o.sources, t.heard)
	if err != nil {
		if errors.Is(err, multicast.ErrPending) {
			err = withHint(err, "topicast interfaces lists what there is")
		}
		return err
	}
	fmt.Fprintf(errOut, "listening on %s, interface %s (index %d)%s\n", strings.Join(j.texts, ", "), j.on.Name, j.on.Index, fromText(o.sources))
	if err := j.on.CanReceive(); err != nil {
		printWarning(errOut, err)
	}
	if o.port != 0 {
		for _, text := range multicast.PortSharers(o.port, j.on) {
			printWarning(errOut, text)
		}
	}
	if g, needed := j.needsSource(o.sources); needed {
		printWarning(errOut, fmt.Sprintf("%s is for source-specific multicast, and routers may deliver nothing without --source", g))
	}
	defer context.AfterFunc(ctx, e.close)()
	lost, err := e.wait()
	if lost > 0 {
		printWarning(errOut, fmt.Sprintf("%s came faster than they could be read, and are lost", count(lost, "more datagram")))
	}
	switch {
	case err != nil || t.err != nil:
		return errors.Join(err, t.err)
	case o.count > 0 && t.printed < o.count && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return withHint(fmt.Errorf("%d of %s arrived in %v", t.printed, count(o.count, "datagram"), o.length),
			"topicast send to this group, on this host and on others, shows how far datagrams come")
	}
	return nil
}

// listening is what to join, and on which interface.
type listening struct {
	groups []netip.AddrPort
	texts  []string // the groups and ranges, as they are written best
	on     multicast.Interface
}

// prepare checks what was asked for, and finds the interface.
func (o *listenOptions) prepare(texts []string) (j listening, err error) {
	on := o.on
	for _, text := range texts {
		groups, zone, err := parseGroups(text)
		if own, is := netip.ParseAddrPort(text); err != nil && is == nil && !own.Addr().IsMulticast() {
			return j, withHint(err, fmt.Sprintf("what comes to this host itself: topicast listen --port %d --interface NAME", own.Port()))
		}
		if err != nil {
			return j, err
		}
		if on, err = joinZone(on, zone); err != nil {
			return j, err
		}
		j.texts = append(j.texts, groups.String())
		for g := range groups.All() {
			if !slices.Contains(j.groups, g) {
				j.groups = append(j.groups, g)
			}
		}
	}
	if o.port != 0 {
		j.addPort(o.port)
	}
	if len(j.groups) == 0 {
		return j, usageError(errors.New("GROUP:PORT is missing, or --port"))
	}
	if o.count < 0 || o.length < 0 {
		return j, usageError(errors.New("--count and --for are not negative"))
	}
	if !slices.Contains(formats, o.format) {
		return j, usageError(fmt.Errorf("--format %q: it is one of %s", o.format, strings.Join(formats, ", ")))
	}
	j.on, err = listenInterface(on)
	return j, err
}

// listenInterface is the interface that is named, or the only one where none is.
func listenInterface(name string) (on multicast.Interface, err error) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return on, err
	}
	if err = oneInterface(name); err != nil {
		return on, err
	}
	if name == "" {
		if name, err = onlyInterface(interfaces); err != nil {
			return on, err
		}
	}
	if on, err = multicast.ResolveInterface(name, interfaces); err != nil {
		return on, withHint(err, "topicast interfaces lists what there is")
	}
	return on, nil
}

// addPort adds what comes to this host itself, in each family.
func (j *listening) addPort(port uint16) {
	j.texts = append(j.texts, "port "+strconv.Itoa(int(port)))
	j.groups = append(j.groups, netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port))
}

// onlyInterface is the interface to listen on where there is no other.
func onlyInterface(interfaces []multicast.Interface) (string, error) {
	var names, all []string
	for _, i := range interfaces {
		all = append(all, i.Name)
		if i.CanReceive() == nil && !i.Loopback {
			names = append(names, i.Name)
		}
	}
	if len(names) == 1 {
		return names[0], nil
	}
	err := errors.New("there are several interfaces, and none is guessed")
	if len(names) == 0 {
		err, names = errors.New("no interface is up but the loopback, and none is guessed"), all
	}
	return "", usageError(withHint(err, "name one with --interface: "+strings.Join(names, ", ")))
}

func fromText(sources []netip.Addr) string {
	var words []string
	for _, s := range sources {
		words = append(words, s.String())
	}
	if len(words) == 0 {
		return ""
	}
	return ", only from " + strings.Join(words, ", ")
}

// needsSource reports whether a group is one of source-specific multicast and no
// source is named, and which.
func (j *listening) needsSource(sources []netip.Addr) (group netip.Addr, needed bool) {
	for _, g := range j.groups {
		if len(sources) == 0 && mapping.SourceSpecific(g.Addr()) {
			return g.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// tally prints datagrams until there are enough.
type tally struct {
	*printer
	count   int // 0: there are never enough
	enough  func()
	printed int
	err     error
}

// heard prints what arrived together. It may be called once more after there were
// enough: closing takes a moment.
func (t *tally) heard(batch []multicast.Datagram) {
	now := time.Now()
	for _, d := range batch {
		if t.over() {
			break
		}
		if t.err = t.print(d, now); t.err == nil {
			t.printed++
		}
	}
	if t.over() {
		t.enough()
	}
}

func (t *tally) over() bool { return t.err != nil || t.count > 0 && t.printed == t.count }
