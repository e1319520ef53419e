package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"topicast/bridge/multicast"
	"topicast/internal/capture"
	"topicast/internal/frame"
)

// The way of a packet of the file:
//
//	1. capture: one packet after the other
//	2. frame: the datagram in it, put together of its fragments
//	3. wanted: of a group that is asked for, or why not
//	4. rhythm: wait until it is its turn
//	5. the sender of its family, which topicast send has too

func newReplayCommand() *cobra.Command {
	o := replayOptions{sendOptions: newSendOptions(), speed: 1}
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "Send the datagrams of a capture to their groups again",
		Long: `Send the UDP datagrams of a capture file to their groups again, byte for byte, in
their order and their rhythm, from the source and the interface that are chosen here,
which are tested as topicast send does.

FILE is pcap or pcapng, as tcpdump -w and Wireshark write it, or - for the standard
input. Ethernet with or without VLAN tags, Linux cooked (the interface any), loopback
and raw IP are read; fragments are put together. It is read as it is sent: the size
of the file does not matter.

What went to single hosts or broadcast addresses is left out unless --hosts is given,
and --group sends some groups alone. What is left out is counted, with the reason.

A capture that was made on the host that sent may have several datagrams in one packet
(segmentation offload), which nothing tells from a long one: capture where it arrives.

Exit status: 0 all that was to be sent was taken by the kernel; 1 not all of it, or
the file is damaged (what stands before the damage is sent); 64 wrong usage.`,
		Example: `  topicast replay meters.pcapng --source 127.0.0.1
  topicast replay meters.pcapng --interface lo --group 239.12.255.254:9522
  topicast replay meters.pcapng --source 127.0.0.1 --speed 10`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"pcapng", "pcap", "cap"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.given = c.Flags().Changed
			return runReplay(c.Context(), o, args[0], c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	o.addReplayFlags(f)
	f.StringArrayVar(&o.groups, "group", nil, "only what went to this `group:port`, or a range of groups; may be repeated")
	f.BoolVar(&o.hosts, "hosts", false, "what went to single hosts and broadcast addresses too")
	f.Float64Var(&o.speed, "speed", o.speed, "`times` the rhythm of the file: 2 is twice as fast, 0.5 half; 0: without a pause")
	return c
}

// addReplayFlags adds those of topicast send that replay has too.
func (o *replayOptions) addReplayFlags(to *pflag.FlagSet) {
	all := &cobra.Command{}
	o.sendOptions.addFlags(all)
	for _, name := range []string{"source", "interface", "source-port", "ttl", "dscp", "no-loopback", "no-verify"} {
		to.AddFlag(all.Flags().Lookup(name))
	}
}

type replayOptions struct {
	sendOptions
	groups []string
	hosts  bool
	speed  float64
}

func runReplay(ctx context.Context, o replayOptions, file string, stdin io.Reader, out, errOut io.Writer) error {
	r, err := o.prepare(errOut)
	if err != nil {
		return err
	}
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	from, err := capture.NewReader(in)
	if err != nil {
		return captureError(file, err)
	}
	defer r.close()
	err = r.run(ctx, from)
	r.sumUp(out, errOut)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: %s sent", count(r.sent, "datagram"))
	case err != nil:
		return captureError(file, err)
	case r.refused > 0:
		return fmt.Errorf("%s not taken: the first is %w", count(r.refused, "datagram"), r.firstRefused)
	case r.sent == 0 && r.unopened != nil:
		return r.unopened
	case r.sent == 0:
		return withHint(fmt.Errorf("%s has nothing to send", file), r.whyNothing())
	}
	return nil
}

// captureError names the file where an error is about it.
func captureError(file string, err error) error {
	switch {
	case errors.Is(err, capture.ErrNoCapture):
		return withHint(fmt.Errorf("%s: %w", file, err), "tcpdump -w and Wireshark write pcap and pcapng; what is compressed: gunzip -c FILE | topicast replay -")
	case errors.Is(err, capture.ErrDamaged):
		return fmt.Errorf("%s: %w", file, err)
	}
	return err
}

// kindOfSender tells senders apart: a socket is of one family, for groups or for hosts.
type kindOfSender struct{ ipv6, host bool }

// replayer sends what is in a file.
type replayer struct {
	*replayOptions
	errOut  io.Writer
	only    map[netip.AddrPort]bool // none: all
	reader  frame.Reader
	senders map[kindOfSender]*multicast.Sender // nil: could not be opened
	rhythm  rhythm

	packets, sent, refused int
	firstRefused           error
	unopened               error // the first sender that could not be opened
	left                   skipped
	targetsSeen            map[netip.AddrPort]struct{}
	moreGroups             bool
}

// maxReplayed is how many groups and hosts are counted.
const maxReplayed = 4096

// prepare checks what was asked for.
func (o *replayOptions) prepare(errOut io.Writer) (*replayer, error) {
	r := &replayer{replayOptions: o, errOut: errOut, senders: make(map[kindOfSender]*multicast.Sender), only: make(map[netip.AddrPort]bool), targetsSeen: make(map[netip.AddrPort]struct{})}
	switch {
	case o.speed < 0 || math.IsNaN(o.speed) || math.IsInf(o.speed, 0):
		return nil, usageError(errors.New("--speed is not negative: 1 is the rhythm of the file, 0 without a pause"))
	case o.source == "" && o.binding.Interface == "":
		return nil, usageError(withHint(errors.New("neither --source nor --interface: name at least one, it is never guessed"), "topicast interfaces lists what there is"))
	}
	if _, err := o.parseSource(); err != nil {
		return nil, usageError(err)
	}
	for _, text := range o.groups {
		g, zone, err := parseGroups(text)
		if err != nil {
			return nil, err
		}
		if o.binding.Interface, err = joinZone(o.binding.Interface, zone); err != nil {
			return nil, err
		}
		for one := range g.All() {
			r.only[one] = true
		}
	}
	r.rhythm.speed, r.rhythm.sleep = o.speed, preciseSleep
	r.rhythm.long = func(pause time.Duration) {
		printNote(errOut, fmt.Sprintf("the next datagram of the file is to leave in %v: --speed makes that shorter, and 0 leaves out all pauses", pause.Round(time.Second)))
	}
	return r, oneInterface(o.binding.Interface)
}

// run sends what is in the file until it ends.
func (r *replayer) run(ctx context.Context, from *capture.Reader) error {
	for {
		p, err := from.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		r.packets++
		d, ok := r.read(p)
		if !ok {
			continue
		}
		s, why := r.sender(ctx, d)
		if s == nil {
			r.left[why]++
			continue
		}
		if err := r.rhythm.wait(ctx, p.At); err != nil {
			return err
		}
		d.Broadcast = s.Source().Binding.Host
		if err := sendOne(ctx, s, d); err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, multicast.ErrPending), errors.Is(err, multicast.ErrNoBuffer), errors.Is(err, multicast.ErrWouldBlock):
				return err
			}
			r.refused++
			if r.firstRefused == nil {
				r.firstRefused = err
			}
			continue
		}
		r.rhythm.left()
		r.sent++
		r.note(d.To)
	}
}

// read is the datagram of a packet, if it is to be sent.
func (r *replayer) read(p capture.Packet) (d multicast.Datagram, ok bool) {
	if !p.Link.Known() {
		r.left[unknownLink]++
		return d, false
	}
	packet, ok := p.Link.Inner(p.Bytes)
	if !ok {
		r.left[notUDP]++
		return d, false
	}
	f := r.reader.Read(packet, p.At)
	why, ok := r.judge(f)
	if !ok {
		if f.Kind != frame.Fragment { // which counts with its datagram
			r.left[why]++
		}
		return d, false
	}
	return multicast.Datagram{To: f.To, Payload: f.Payload}, true
}

// judge reports whether a packet is to be sent, and why not.
func (r *replayer) judge(f frame.Packet) (why int, ok bool) {
	switch f.Kind {
	case frame.Cut:
		return cutShort, false
	case frame.Malformed:
		return malformed, false
	case frame.Datagram:
	default:
		return notUDP, false
	}
	to := f.To.Addr()
	switch {
	case f.To.Port() == 0, to.IsUnspecified(), to.Is4In6(): // RFC 1122, 3.2.1.3; RFC 4291, 2.5.2
		return malformed, false
	case to.IsMulticast() && len(r.only) > 0 && !r.only[f.To]:
		return otherGroup, false
	case !to.IsMulticast() && !r.hosts:
		return toHost, false
	case len(f.Payload) > multicast.MaxPayload:
		return malformed, false
	}
	return 0, true
}

// sender is that of a datagram's family, opened when the first needs it; nil, and why, where it cannot
// be opened, as on an interface without IPv6.
func (r *replayer) sender(ctx context.Context, d multicast.Datagram) (s *multicast.Sender, why int) {
	kind := kindOfSender{d.To.Addr().Is6(), !d.To.Addr().IsMulticast()}
	s, known := r.senders[kind]
	if known {
		return s, noSource
	}
	if _, _, err := parseTarget(d.To.String()); err != nil {
		return nil, malformed // which says nothing of others
	}
	to, source, err := r.destination(d.To.String())
	if err == nil {
		s, err = r.open(ctx, to, source, r.errOut)
	}
	if err != nil {
		s = nil
		if r.unopened == nil {
			r.unopened = err
		}
		if len(r.senders) > 0 {
			printWarning(r.errOut, err)
		}
	}
	r.senders[kind] = s
	return s, noSource
}

// note counts groups and hosts.
func (r *replayer) note(to netip.AddrPort) {
	if _, known := r.targetsSeen[to]; known {
		return
	}
	if len(r.targetsSeen) == maxReplayed {
		r.moreGroups = true
		return
	}
	r.targetsSeen[to] = struct{}{}
}

func (r *replayer) close() {
	for _, s := range r.senders {
		if s != nil {
			s.Close()
		}
	}
}
