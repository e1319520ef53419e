package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
)

func newListenCommand() *cobra.Command {
	o := listenOptions{format: formatText}
	c := &cobra.Command{
		Use:   "listen GROUP:PORT",
		Short: "Join a group and print the datagrams that arrive",
		Long: `Join a group on an interface and print each datagram that arrives: the time, the
sender's address and port, the interface, the size and the payload.

` + groupUsage + `

Without --interface it is the one interface that is up and not the loopback; of
several, none is guessed.

Formats: text escapes what is not printable; hex is for bytes; json prints one
object a line, with payload where it is UTF-8 and payload_base64 where not.

Exit status: 0 when --count is reached, --for has passed (with no --count) or
Ctrl-C was pressed; 1 when --for has passed before --count was reached, or the
group cannot be joined; 2 wrong usage.`,
		Example: `  topicast listen 239.1.2.3:5000 --interface lo
  topicast listen 239.1.2.3:5000 --interface lo --format json
  topicast listen 239.1.2.3:5000 --interface lo --source 127.0.0.1 --for 1s`,
		RunE: func(c *cobra.Command, args []string) error {
			return runListen(c.Context(), o, args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.addFlags(c)
	return c
}

type listenOptions struct {
	on      string
	sources []netip.Addr
	count   int
	length  time.Duration
	format  string
}

func (o *listenOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.on, "interface", "", "the `name` of the interface to join on")
	f.Func("source", "only what this `address` sends (a source-specific join); may be repeated", func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%q is no address", s)
		}
		o.sources = append(o.sources, a)
		return nil
	})
	f.IntVar(&o.count, "count", 0, "stop after `n` datagrams; 0: never")
	f.DurationVar(&o.length, "for", 0, "stop after this time; 0s: never")
	f.StringVar(&o.format, "format", o.format, "how to print payloads: `text|hex|json`")
}

func runListen(ctx context.Context, o listenOptions, text string, out, errOut io.Writer) error {
	join, printer, err := o.prepare(text, out)
	if err != nil {
		return err
	}
	if o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.length)
		defer cancel()
	}
	r, err := multicast.Listen(join)
	if err != nil {
		if errors.Is(err, multicast.ErrPending) {
			err = withHint(err, "topicast interfaces lists what there is")
		}
		return err
	}
	defer r.Close()
	fmt.Fprintf(errOut, "listening on %s, interface %s%s%s\n", r.Group(), join.Interface, indexText(join.Interface), fromText(join.Sources))
	if needsSource(join) {
		printWarning(errOut, fmt.Sprintf("%s is for source-specific multicast, and routers may deliver nothing without --source", join.Group.Addr()))
	}
	defer context.AfterFunc(ctx, func() { r.Close() })()
	heard, err := o.receive(r, printer)
	switch {
	case err != nil && !errors.Is(err, net.ErrClosed):
		return err
	case o.count > 0 && heard < o.count && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return withHint(fmt.Errorf("%d of %s arrived in %v", heard, count(o.count, "datagram"), o.length),
			"topicast send to this group, on this host and on others, shows how far datagrams come")
	}
	return nil
}

// prepare checks what was asked for, and finds the interface.
func (o *listenOptions) prepare(text string, out io.Writer) (join multicast.ReceiverOptions, p *printer, err error) {
	group, zone, err := parseGroup(text)
	if err != nil {
		return join, nil, err
	}
	if o.count < 0 || o.length < 0 {
		return join, nil, usageError(errors.New("--count and --for are not negative"))
	}
	if !slices.Contains(formats, o.format) {
		return join, nil, usageError(fmt.Errorf("--format %q: it is one of %s", o.format, strings.Join(formats, ", ")))
	}
	join = multicast.ReceiverOptions{Sources: o.sources}
	join.Group, _ = group.Fixed()
	if join.Interface, err = joinZone(o.on, zone); err != nil {
		return join, nil, err
	}
	if join.Interface == "" {
		interfaces, err := multicast.Interfaces()
		if err != nil {
			return join, nil, err
		}
		if join.Interface, err = onlyInterface(interfaces); err != nil {
			return join, nil, err
		}
	}
	return join, &printer{out: out, format: o.format, on: join.Interface}, nil
}

// onlyInterface is the interface to listen on where there is no other.
func onlyInterface(interfaces []multicast.Interface) (string, error) {
	var names, all []string
	for _, i := range interfaces {
		all = append(all, i.Name)
		if i.Up && i.Carrier && !i.Loopback {
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

// indexText is " (index 3)", or nothing where the interface has just gone.
func indexText(name string) string {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (index %d)", i.Index)
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

// needsSource tells whether the group is one of source-specific multicast and
// no source is named.
func needsSource(o multicast.ReceiverOptions) bool {
	if len(o.Sources) > 0 {
		return false
	}
	a := o.Group.Addr()
	if a.Is4() {
		return a.As4()[0] == 232 // 232.0.0.0/8, RFC 4607 section 1
	}
	b := a.As16()
	return b[1]>>4 == 3 && b[2] == 0 && b[3] == 0 // ff3x::/32, RFC 4607 section 1
}

// receiver is what receive needs of a multicast.Receiver.
type receiver interface {
	Receive(batch []multicast.Datagram) (int, error)
}

// receive prints datagrams until there are enough or r is closed.
func (o *listenOptions) receive(r receiver, p *printer) (heard int, err error) {
	batch := make([]multicast.Datagram, 64)
	for o.count == 0 || heard < o.count {
		n, err := r.Receive(batch)
		if err != nil {
			return heard, err
		}
		now := time.Now()
		if o.count > 0 {
			n = min(n, o.count-heard)
		}
		for _, d := range batch[:n] {
			if err := p.print(d, now); err != nil {
				return heard, err
			}
		}
		heard += n
	}
	return heard, nil
}
