package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

func newSendCommand() *cobra.Command {
	o := newSendOptions()
	c := &cobra.Command{
		Use:   "send TARGET:PORT [TEXT]",
		Short: "Send datagrams to a group or a host, from a source you choose",
		Long: `Send one datagram to a group or a host, or several: a text, bytes in hexadecimal,
or a file.

` + targetUsage + `

Datagrams leave from the address that --source names, out of the interface that
--interface names. One of the two is enough if it picks the other; what is not
named is never guessed.

Before it sends, it tests itself: a probe that does not leave this host shows
which address and port this host gives to datagrams. If a NAT rule of this host
changes them, nothing is sent; nor if a route keeps the group on this host, or hands
it to a gateway, and cannot be passed over (most can: see topicast explain).

To a host they leave by that interface too, whatever the routes say: through a
gateway of its network where a route names one. If nobody answers for the host on
the link, the kernel drops them, which is an error here (Linux).

Exit status: 0 the kernel took all datagrams; 1 not all of them; 64 wrong usage.`,
		Example: `  topicast send 239.1.2.3:5000 hello --source 127.0.0.1
  topicast send 239.1.2.3:5000 --source 127.0.0.1 --hex "11 22 33 44 AA BB"
  topicast send 127.0.0.1:5683 hello --interface lo
  topicast send 239.1.2.3:5000 tick --source 127.0.0.0/8 --count 3 --interval 1s
  echo hello | topicast send 239.1.2.3:5000 --source 127.0.0.1 --file -`,
		RunE: func(c *cobra.Command, args []string) error {
			o.given = c.Flags().Changed
			return runSend(c.Context(), o, args, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.addFlags(c)
	return c
}

type sendOptions struct {
	binding    mapping.Binding
	source     string
	noLoopback bool
	hex, file  string
	count      int
	interval   time.Duration
	noVerify   bool
	given      func(flag string) bool
}

func newSendOptions() sendOptions {
	return sendOptions{binding: mapping.Binding{TTL: 1, Fragment: true}, count: 1, interval: time.Second}
}

func (o *sendOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.source, "source", "", "the `address` of this host to send from, or a prefix that picks one")
	f.StringVar(&o.binding.Interface, "interface", "", "the `name` of the interface to leave by")
	f.Uint16Var(&o.binding.SourcePort, "source-port", 0, "the UDP `port` to send from; 0: any free one")
	f.Uint8Var(&o.binding.TTL, "ttl", o.binding.TTL, "cross at most `n` networks, the first included: 1 to 255; 64 to a host where it is left out")
	f.Func("dscp", "the `class` of traffic: 0 to 63, or a name such as EF, AF41 or CS5 (default 0)", func(s string) (err error) {
		o.binding.DSCP, err = mapping.ParseDSCP(s)
		return err
	})
	f.BoolVar(&o.noLoopback, "no-loopback", false, "keep it from programs on this host")
	f.StringVar(&o.hex, "hex", "", "send these `bytes`, two hexadecimal digits each, spaces allowed between them")
	f.StringVar(&o.file, "file", "", "send what is in this `file`; - is the standard input")
	f.IntVar(&o.count, "count", o.count, "send it `n` times; 0: until Ctrl-C")
	f.DurationVar(&o.interval, "interval", o.interval, "the time from one datagram to the next")
	f.BoolVar(&o.noVerify, "no-verify", false, "send without the self-test")
}

// runSend is what a rule does with a message, once.
func runSend(ctx context.Context, o sendOptions, args []string, stdin io.Reader, out, errOut io.Writer) error {
	to, source, err := o.destination(args[0])
	if err != nil {
		if len(args) > 1 {
			if _, _, other := parseTarget(args[1]); other == nil {
				err = usageError(withHint(err, "the target comes first: topicast send "+shellWord(args[1])+" "+shellWord(args[0])))
			}
		}
		return err
	}
	payload, err := o.payload(ctx, args[1:], stdin)
	if err != nil {
		return err
	}
	s, err := o.open(ctx, to, source, errOut)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := o.send(ctx, s, multicast.Datagram{To: to, Payload: payload, Broadcast: source.Binding.Host}, out); err != nil {
		return err
	}
	if err := awaitNeighbour(ctx, s, to.Addr()); err != nil {
		return err
	}
	warnOfHostError(ctx, s, errOut)
	return nil
}

// open opens the sender of a source, and tests it unless that is not wanted.
func (o *sendOptions) open(ctx context.Context, to netip.AddrPort, source multicast.Source, errOut io.Writer) (*multicast.Sender, error) {
	if route, ok := source.GatewayRoute(to.Addr()); ok && route.Binding && !o.noVerify && !source.Binding.Host {
		text, hint := routeText(route, true)
		return nil, withHint(fmt.Errorf("not sent: %s", text), hint+"; --no-verify sends all the same")
	}
	s, err := multicast.Open(source)
	if err != nil {
		return nil, err
	}
	if !o.noVerify {
		if err := judge(s.Probe(ctx), errOut); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// destination is where to, and where from on this host.
func (o *sendOptions) destination(text string) (netip.AddrPort, multicast.Source, error) {
	rule, zone, err := parseTarget(text)
	if err != nil {
		return netip.AddrPort{}, multicast.Source{}, err
	}
	if o.count < 0 || o.interval < 0 {
		return netip.AddrPort{}, multicast.Source{}, usageError(errors.New("--count and --interval are not negative"))
	}
	b := o.binding
	b.Loopback = !o.noLoopback
	if !rule.Host.IsZero() && !o.given("ttl") {
		b.TTL = mapping.DefaultHostTTL
	}
	if b.Source, err = o.parseSource(); err != nil {
		return netip.AddrPort{}, multicast.Source{}, usageError(err)
	}
	if err = oneInterface(b.Interface); err != nil {
		return netip.AddrPort{}, multicast.Source{}, err
	}
	if b.Interface, err = joinZone(b.Interface, zone); err != nil {
		return netip.AddrPort{}, multicast.Source{}, err
	}
	rule.Binding = b
	if b, err = compileOne(rule); err != nil {
		return netip.AddrPort{}, multicast.Source{}, err
	}
	source, err := multicast.Binding(b).Resolve()
	if err != nil {
		return netip.AddrPort{}, multicast.Source{}, withHint(err, "topicast interfaces lists what there is")
	}
	to, _ := rule.To().Fixed()
	return to, source, nil
}

// oneInterface refuses what a rule may have for several interfaces.
func oneInterface(name string) error {
	if mapping.SeveralInterfaces(name) {
		return usageError(withHint(fmt.Errorf("--interface %s: it is one interface here", shellWord(name)), "topicast interfaces lists what there is; a rule may have several"))
	}
	return nil
}

// parseSource reads --source, and sees whether it was taken for --interface.
func (o *sendOptions) parseSource() (netip.Prefix, error) {
	if o.source == "" {
		return netip.Prefix{}, nil
	}
	p, err := parseSource(o.source)
	if err == nil {
		return p, nil
	}
	err = fmt.Errorf("--source: %w", err)
	if _, other := parseSource(o.binding.Interface); other == nil {
		return p, withHint(err, fmt.Sprintf("source and interface are swapped: --source %s --interface %s", o.binding.Interface, shellWord(o.source)))
	}
	return p, err
}

// payload is what TEXT, --hex or --file gives: one of them, and one only. An
// empty one is a payload too.
func (o *sendOptions) payload(ctx context.Context, text []string, stdin io.Reader) ([]byte, error) {
	given := len(text)
	for _, flag := range []string{"hex", "file"} {
		if o.given(flag) {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, usageError(withHint(errors.New("nothing to send"), `give a TEXT, --hex or --file; "" is an empty datagram`))
	case given > 1:
		return nil, usageError(errors.New("TEXT, --hex and --file exclude each other"))
	case o.given("hex"):
		return decodeHex(o.hex)
	case o.given("file"):
		return readPayload(ctx, o.file, stdin)
	}
	return []byte(text[0]), nil
}

// decodeHex reads what a rule with payload: hex reads.
func decodeHex(text string) ([]byte, error) {
	codec, err := mapping.ParsePayload("hex")
	if err != nil {
		return nil, err
	}
	payload, err := codec.Decode(nil, []byte(text))
	if err != nil {
		return nil, usageError(fmt.Errorf("--%w", err)) // it begins with "hex: "
	}
	return payload, nil
}

// readPayload reads a file, but not more than shows that it is too long.
func readPayload(ctx context.Context, file string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	type result struct {
		payload []byte
		err     error
	}
	read := make(chan result, 1)
	go func() {
		payload, err := io.ReadAll(io.LimitReader(from, multicast.MaxPayload+1))
		read <- result{payload, err}
	}()
	select {
	case r := <-read:
		if r.err == nil && len(r.payload) > multicast.MaxPayload {
			return nil, fmt.Errorf("%s holds more than the %d bytes of a datagram", file, multicast.MaxPayload)
		}
		return r.payload, r.err
	case <-ctx.Done(): // a terminal or a pipe may never end
		return nil, errors.New("interrupted")
	}
}

// judge refuses a sender whose datagrams would not leave from its source.
func judge(p multicast.Probe, errOut io.Writer) error {
	switch p.Result {
	case multicast.ProbeRewritten, multicast.ProbeGateway:
		return withHint(fmt.Errorf("not sent: %s", p.Detail), "--no-verify sends all the same")
	case multicast.ProbeRefused:
		return withHint(fmt.Errorf("not sent: %s", p.Detail), "--no-verify tries all the same")
	case multicast.ProbeUnheard, multicast.ProbeSkipped:
		printWarning(errOut, "the source is not verified: "+p.Detail)
	}
	return nil
}

// send sends d as often as asked for, tells of the first and sums up the rest.
func (o *sendOptions) send(ctx context.Context, s *multicast.Sender, d multicast.Datagram, out io.Writer) error {
	began, sent := time.Now(), 0
	sumUp := func() {
		if o.count != 1 && sent > 0 {
			fmt.Fprintf(out, "%s sent in %.1f s\n", count(sent, "datagram"), time.Since(began).Seconds())
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	for o.count == 0 || sent < o.count {
		select {
		case <-ctx.Done():
			sumUp()
			if o.count > 0 {
				return fmt.Errorf("interrupted: %d of %s sent", sent, count(o.count, "datagram"))
			}
			return nil
		case <-next.C:
		}
		next.Reset(o.interval)
		if err := sendOne(ctx, s, d); err != nil {
			sumUp()
			return err
		}
		if sent++; sent == 1 {
			source := s.Source()
			through := ""
			if hop := s.NextHop(d.To.Addr()); hop.IsValid() && hop != d.To.Addr() {
				through = " through " + hop.String()
			}
			fmt.Fprintf(out, "%s -> %s%s on %s (index %d), ttl %d, %s\n", s.LocalAddr(), d.To, through,
				source.Interface, source.Index, source.Binding.TTL, count(len(d.Payload), "byte"))
		}
	}
	sumUp()
	return nil
}

// awaitNeighbour waits until the kernel has resolved the link-layer address of a host, or of the gateway
// to it. It is an error if nobody answers for it: then what was sent is lost. Its neighbour table is
// asked again and again for the few seconds that this takes: it gives notice by netlink alone.
func awaitNeighbour(ctx context.Context, s *multicast.Sender, host netip.Addr) error {
	hop := s.NextHop(host)
	for hop.IsValid() && ctx.Err() == nil {
		switch s.Reach(hop) {
		case multicast.ReachIncomplete:
			time.Sleep(10 * time.Millisecond)
			continue
		case multicast.ReachFailed:
			who := hop.String()
			if hop != host {
				who = fmt.Sprintf("the gateway %s to %s", hop, host)
			}
			return withHint(fmt.Errorf("%s does not answer on the link of %s: the kernel has dropped what was sent", who, s.Source().Interface),
				"is it on, and in that network? ip neigh show dev "+shellWord(s.Source().Interface))
		}
		return nil
	}
	return nil
}

// icmpPatience is how long an ICMP error about what was sent to a host is waited for.
const icmpPatience = 200 * time.Millisecond

// warnOfHostError waits a moment for an ICMP error by which a host, or a router on the way, refuses what was
// sent. That is a warning and no failure: the datagram has left, and anybody can forge such an error. The
// sender is asked again and again: nobody reads from its socket, whom the error would wake (POLLERR).
func warnOfHostError(ctx context.Context, s *multicast.Sender, errOut io.Writer) {
	if !s.Source().Binding.Host {
		return
	}
	for end := time.Now().Add(icmpPatience); ctx.Err() == nil && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, e := range s.HostErrors() {
			printWarning(errOut, fmt.Sprintf("%s does not take what is sent to it: %s says %s (ICMP); is the port right, and does its program run?", e.To, e.From, e.Text))
			return
		}
	}
}

// sender is what sendOne needs of a multicast.Sender.
type sender interface {
	Send(batch []multicast.Datagram, failed func(i int, err error)) (int, error)
	Wait(ctx context.Context) error
}

// roomPatience is how long sendOne waits for room. A rule waits on; the user of a command wants to know.
const roomPatience = 5 * time.Second

// sendOne sends d, and waits for a while if the socket or the interface has no room.
func sendOne(ctx context.Context, s sender, d multicast.Datagram) error {
	var refused error
	var patience context.Context
	for {
		_, err := s.Send([]multicast.Datagram{d}, func(_ int, err error) { refused = err })
		switch {
		case errors.Is(err, multicast.ErrWouldBlock), errors.Is(err, multicast.ErrNoBuffer):
			if patience == nil {
				var cancel context.CancelFunc
				patience, cancel = context.WithTimeout(ctx, roomPatience)
				defer cancel()
			}
			switch waited := s.Wait(patience); {
			case ctx.Err() != nil:
				return errors.New("interrupted")
			case patience.Err() != nil:
				return withHint(fmt.Errorf("not sent, as for %v there was no room: %w", roomPatience, err),
					"tc -s qdisc and tc -s filter show what queues and drops; ip -s link shows whether the interface sends")
			case waited != nil:
				return waited
			}
			continue
		case errors.Is(err, multicast.ErrPending):
			return withHint(err, "topicast interfaces lists what there is now")
		case errors.Is(refused, os.ErrPermission):
			return withHint(refused, fmt.Sprintf("allow udp to %s, port %d, in the output chain of this host's firewall",
				d.To.Addr(), d.To.Port()))
		case err != nil:
			return err
		}
		return refused
	}
}
