package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
	"topicast/internal/frame"
	"topicast/internal/recognise"
)

// The way of what is heard:
//
//	packet socket, where it is allowed ─▶ 1. frame: datagrams and membership reports
//	                                          a group that was reported is joined too
//	or a receiver for each group ─────────▶ 2. learner: flows by group and port, bounded
//	                                        3. recognise: what each flow speaks
//	                                        4. advise: the rule for it, and why
//	                                        5. printed: a configuration, or JSON

func newLearnCommand() *cobra.Command {
	o := learnOptions{length: time.Minute}
	c := &cobra.Command{
		Use:   "learn",
		Short: "Find what is multicast on a network, and print a configuration",
		Long: `Listen on an interface for a while, tell by their bytes which protocols are spoken
there, and print a configuration that receives them, with the reasons. It is ready for
topicast check; where the broker is has to be filled in.

With the right to see packets (CAP_NET_RAW, on Linux) it hears all groups that the
network brings here, broadcasts, what comes to this host itself at ports below 32768,
and which groups others have joined, which it then joins too. Without, it hears the
well-known groups of these protocols, and those that --group names, and no others.

It sends nothing itself, but joining a group makes the kernel tell the network so
(IGMP, MLD). Behind a switch with IGMP snooping a group that nobody here has joined
may not be heard: name it with --group.

It knows sACN, Art-Net, KNXnet/IP, SSDP, mDNS, LLMNR, WS-Discovery, CoAP, CoIoT
(Shelly), SMA Speedwire, Cursor on Target, NMEA 0183, IEC 61162-450, PTP, SAP, RTP
and RTCP, syslog and Ganglia. What is none of these is unknown, with its first bytes. A rule for
what belongs to its network alone, as mDNS and PTP, is commented out.

Exit status: 0 something was heard; 1 nothing was, or it cannot listen; 64 wrong
usage.`,
		Example: `  topicast learn --interface eth0
  topicast learn --interface eth0 --for 5m > topicast.yaml
  topicast learn --interface eth0 --group 239.20.0.1-239.20.0.9:5000 --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return runLearn(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.on, "interface", "", "the `name` of the interface to listen on, or an address of it; may be left out where there is one")
	f.DurationVar(&o.length, "for", o.length, "how long to listen; Ctrl-C ends it before")
	f.StringArrayVar(&o.groups, "group", nil, "a `group:port`, or a range of groups, to join beside the well-known ones; may be repeated")
	f.BoolVar(&o.json, "json", false, "print one JSON document instead of a configuration")
	return c
}

type learnOptions struct {
	on     string
	length time.Duration
	groups []string
	json   bool
}

// maxJoins is how many groups learn joins: the well-known ones, those of --group, and those
// that others report.
const maxJoins = 512

func runLearn(ctx context.Context, o learnOptions, out, errOut io.Writer) error {
	if o.length <= 0 {
		return usageError(errors.New("--for is a time above 0"))
	}
	on, groups, err := o.prepare()
	if err != nil {
		return err
	}
	l := newLearner(on)
	e := &ears{on: on, learner: l, joined: make(map[netip.Addr]io.Closer)}
	defer e.close()
	if err := e.open(groups, errOut); err != nil {
		return err
	}
	if err := on.CanReceive(); err != nil {
		printWarning(errOut, err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-e.ended():
	}
	e.close()
	l.took = time.Since(began)
	l.joined, l.packets, l.lost = e.count(), e.socket != nil, e.lost
	if e.failed != nil {
		return e.failed
	}
	l.tellBounds(errOut)
	if len(l.flows) == 0 {
		return withHint(fmt.Errorf("nothing was heard on %s in %v", on.Name, l.took.Round(time.Second)), l.whyNothing())
	}
	if o.json {
		return l.printJSON(out)
	}
	return l.printConfiguration(out, errOut)
}

// prepare finds the interface, and what to join.
func (o *learnOptions) prepare() (on multicast.Interface, groups []netip.AddrPort, err error) {
	groups = recognise.WellKnown()
	name := o.on
	for _, text := range o.groups {
		more, zone, err := parseGroups(text)
		if err != nil {
			return on, nil, err
		}
		if name, err = joinZone(name, zone); err != nil {
			return on, nil, err
		}
		for g := range more.All() {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
	}
	if len(groups) > maxJoins {
		return on, nil, usageError(fmt.Errorf("--group: %d groups with the well-known ones; it joins %d at most", len(groups), maxJoins))
	}
	on, err = listenInterface(name)
	return on, groups, err
}

// ears are the sockets of learn.
type ears struct {
	on      multicast.Interface
	learner *learner
	socket  *multicast.PacketSocket
	readers []*groupReaders
	done    sync.WaitGroup
	once    sync.Once
	end     chan struct{}
	lost    uint64
	failed  error

	mu     sync.Mutex
	joined map[netip.Addr]io.Closer // with a packet socket; nil values could not be joined
	shut   bool
}

// open opens a packet socket, or, where that is not allowed, a socket for each group.
func (e *ears) open(groups []netip.AddrPort, errOut io.Writer) error {
	e.end = make(chan struct{})
	socket, err := multicast.OpenPacketSocket(e.on, multicast.SightArriving)
	switch {
	case err == nil:
		e.socket = socket
		for _, g := range groups {
			e.join(g.Addr())
		}
		fmt.Fprintf(errOut, "listening on %s (index %d): all groups, broadcasts and membership reports; %s joined\n", e.on.Name, e.on.Index, count(e.count(), "group"))
		e.done.Go(e.readPackets)
		return nil
	case errors.Is(err, os.ErrPermission):
		printWarning(errOut, "without CAP_NET_RAW only the well-known groups are heard: no other group, no broadcast, nothing that comes to this host, and not what others have joined")
		printHint(errOut, "sudo topicast learn …; or once, sudo setcap cap_net_raw+ep "+shellWord(executable())+"; for a unit of systemd, AmbientCapabilities=CAP_NET_RAW")
	case errors.Is(err, errors.ErrUnsupported):
		printWarning(errOut, "only the well-known groups are heard: "+err.Error())
	default:
		return err
	}
	return e.openGroups(groups, errOut)
}

func executable() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "topicast"
}

// openGroups opens a socket for each group. What one cannot have costs that one, such as a
// family that this host has not, or a privileged port.
func (e *ears) openGroups(groups []netip.AddrPort, errOut io.Writer) error {
	var failed []error
	for _, g := range groups {
		r, err := openGroupReaders([]netip.AddrPort{g}, e.on, nil, func(batch []multicast.Datagram) {
			for _, d := range batch {
				e.learner.heard(d.Source, d.To, d.Payload)
			}
		})
		switch {
		case err == nil:
			e.readers = append(e.readers, r)
		case !errors.Is(err, multicast.ErrNoFamily):
			failed = append(failed, err)
		}
	}
	for _, err := range failed[:min(len(failed), 3)] {
		printWarning(errOut, err)
	}
	if more := len(failed) - 3; more > 0 {
		printWarning(errOut, fmt.Sprintf("%s more cannot be heard", count(more, "group")))
	}
	if len(e.readers) == 0 {
		return errors.New("no group can be heard")
	}
	fmt.Fprintf(errOut, "listening on %s (index %d): %s\n", e.on.Name, e.on.Index, count(len(e.readers), "group"))
	return nil
}

// readPackets reads the packet socket until it is closed.
func (e *ears) readPackets() {
	defer e.finish()
	var reader frame.Reader
	packet := make([]byte, 1<<16)
	for {
		n, _, err := e.socket.Read(packet)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				e.failed = err
			}
			return
		}
		p := reader.Read(packet[:n], time.Now())
		switch p.Kind {
		case frame.Datagram:
			e.learner.heard(p.Source, p.To, p.Payload)
		case frame.Membership:
			for _, m := range p.Members {
				if e.learner.member(p.Source.Addr(), m) {
					e.join(m.Group)
				}
			}
		}
	}
}

// join joins a group, so that a switch with snooping brings it here. That of one that is
// there already, or one too many, is left.
func (e *ears) join(group netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.joined[group]; known || e.shut || len(e.joined) >= maxJoins {
		return
	}
	c, err := multicast.JoinOnly(group, e.on)
	if err != nil {
		c = nil
	}
	e.joined[group] = c
}

// count is how many groups are joined.
func (e *ears) count() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.joined {
		if c != nil {
			n++
		}
	}
	return n + len(e.readers)
}

func (e *ears) ended() <-chan struct{} { return e.end }

func (e *ears) finish() { e.once.Do(func() { close(e.end) }) }

// close leaves all groups, and returns when nothing is heard any more. Closing again does
// nothing.
func (e *ears) close() {
	e.mu.Lock()
	shut := e.shut
	e.shut = true
	e.mu.Unlock()
	if shut {
		return
	}
	if e.socket != nil {
		e.lost = e.socket.Lost()
		e.socket.Close()
	}
	for _, r := range e.readers {
		r.stop()
		e.lost += r.lost
	}
	e.done.Wait()
	for _, c := range e.joined {
		if c != nil {
			c.Close()
		}
	}
}
