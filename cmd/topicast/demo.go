package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/configs"
	"topicast/internal/demobroker"
)

func newDemoCommand() *cobra.Command {
	o := demoOptions{length: 10 * time.Second, every: 500 * time.Millisecond}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the bridge at work, on this machine alone",
		Long: `Show the bridge at work, both ways: an MQTT broker, a backend that publishes, a
device that listens to multicast groups and answers to others, and the bridge
between them, all in this one process. Everything stays on the loopback
interface; nothing needs to be installed or set up, and no privilege is needed.

Ctrl-C ends it, as does the end of --for.`,
		Example: `  topicast demo
  topicast demo --for 3s --every 100ms`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runDemo(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().DurationVar(&o.length, "for", o.length, "how long; 0s is until Ctrl-C")
	c.Flags().DurationVar(&o.every, "every", o.every, "how often the backend publishes")
	c.Flags().StringVar((*string)(&o.protocol), "protocol", "auto", "the version of MQTT: auto, 5 or 3.1.1; the broker speaks both")
	must(c.Flags().SetAnnotation("protocol", configs.FlagValues, []string{"auto", "5", "3.1.1"}))
	return c
}

type demoOptions struct {
	length, every time.Duration
	protocol      configs.Protocol // that the bridge and the backend speak
}

// The lamps of the demo, by the part of the topic that their group is made of.
// The last one is a mistake that a backend makes sooner or later: there is no
// octet 300, so its message must go nowhere.
var demoLamps = []struct {
	topic string
	group string // "" where there is none
}{
	{"demo/1/lamp/7/set", "239.255.1.7:30000"},
	{"demo/1/lamp/8/set", "239.255.1.8:30000"},
	{"demo/2/lamp/7/set", "239.255.2.7:30000"},
	{"demo/2/lamp/300/set", ""},
}

func runDemo(ctx context.Context, o demoOptions, out, errOut io.Writer) error {
	if o.every <= 0 || o.length < 0 {
		return usageError(errors.New("--every must be more than 0s, and --for not less"))
	}
	if _, known := protocols[o.protocol]; !known {
		return usageError(fmt.Errorf("--protocol %s: want auto, 5 or 3.1.1", o.protocol))
	}
	d := &demo{out: out, down: newCrossing(), up: newCrossing()}
	b, err := demobroker.Start()
	if err != nil {
		return err
	}
	defer b.Close()
	lo, source, lamps, err := loopback()
	if err != nil {
		return err
	}
	d.source = source
	cfg, text, err := demoConfig(b.URL(), o.protocol, lo.Name, source)
	if err != nil {
		return err
	}
	d.introduce(b.URL(), text)

	device, err := d.plug(lo, lamps)
	if err != nil {
		return err
	}
	defer d.device.Close()
	defer device.stop()
	// Bridge and backend outlive the publishing until the last datagram has been heard.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
	bridged, err := newBridge(cfg, nil, stores{}, nil, log)
	if err != nil {
		return err
	}
	backend, err := session.New(session.Options{URLs: []string{b.URL()}, ClientID: "backend", Clean: true, Logger: log,
		Protocol:      protocols[cfg.Broker.Protocol],
		Subscriptions: []session.Subscription{{Filter: "demo/+/lamp/+/state", QoS: 1}}, Handle: d.told})
	if err != nil {
		return err
	}
	parts.Go(func() { bridged.Run(running) })
	parts.Go(func() { backend.Run(running) })
	if err := d.ready(ctx, bridged, backend); err != nil {
		return err
	}
	ctx, cancel := endAfter(ctx, o.length) // of messages: getting ready takes what it takes
	defer cancel()
	if err := d.publish(ctx, backend, o.every); err != nil {
		return err
	}
	return d.summarize(d.settle(bridged), backend.State().Protocol)
}

// loopback is the loopback interface and two addresses on it, of the bridge and of
// the device: some that nothing would choose by itself, where the system has more
// than one.
func loopback() (lo multicast.Interface, source, device netip.Addr, err error) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return lo, source, device, err
	}
	source = netip.MustParseAddr("127.0.0.1")
	device = source
	if runtime.GOOS == "linux" { // there, all of 127.0.0.0/8 is local
		source, device = netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	}
	for _, i := range interfaces {
		if i.Loopback && i.Up {
			return i, source, device, nil
		}
	}
	return lo, source, device, errors.New("no loopback interface is up; the demo needs one (ip link set lo up)")
}

// demoConfig is a configuration as a user would write it, read as a user's is.
func demoConfig(url string, protocol configs.Protocol, lo string, source netip.Addr) (*configs.Config, string, error) {
	version := ""
	if protocol != configs.ProtocolAuto { // as it comes
		version = fmt.Sprintf("  protocol: \"%s\"\n", protocol)
	}
	text := fmt.Sprintf(`broker:
  url: %s
%ssend:
  - name: lamps
    filter: demo/{floor}/lamp/{id}/set
    group: 239.255.{floor}.{id}:30000
    source: %s
    interface: %s
receive:
  - name: states
    group: [239.255.1.1-239.255.1.9:30001, 239.255.2.1-239.255.2.9:30001]
    interface: %[4]s
    topic: demo/{(group>>8)&255}/lamp/{group&255}/state
`, url, version, source, lo)
	dir, err := os.MkdirTemp("", "topicast-demo-")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "demo.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	cfg, err := configs.Load(file, nil)
	return cfg, text, err
}

// plug makes the device: it joins the lamps' groups and answers from an address of
// its own.
func (d *demo) plug(lo multicast.Interface, address netip.Addr) (*groupReaders, error) {
	source, err := multicast.Binding{
		Source: netip.PrefixFrom(address, address.BitLen()), Interface: lo.Name, TTL: 1, Loopback: true, Fragment: true,
	}.ResolveIn([]multicast.Interface{lo})
	if err != nil {
		return nil, err
	}
	if d.device, err = multicast.Open(source); err != nil {
		return nil, err
	}
	var groups []netip.AddrPort
	for _, lamp := range demoLamps {
		if lamp.group != "" {
			groups = append(groups, netip.MustParseAddrPort(lamp.group))
		}
	}
	e, err := openGroupReaders(groups, lo, nil, func(batch []multicast.Datagram) {
		for _, got := range batch {
			d.heard(got)
		}
	})
	if err != nil {
		d.device.Close()
	}
	return e, err
}

// ready waits until messages can flow.
func (d *demo) ready(ctx context.Context, b *bridge.Bridge, backend *session.Session) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for s := b.Status(); !s.Ready || !backend.State().Connected; s = b.Status() {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil // Ctrl-C before anything flowed
			}
			return fmt.Errorf("the demo did not get ready: %s", strings.Join(s.Waiting, "; "))
		case <-time.After(2 * time.Millisecond):
		}
	}
	d.began = time.Now()
	return nil
}

// demoPatience is how long the demo waits for a part of it, which takes milliseconds
// unless the machine has no time for it.
const demoPatience = 10 * time.Second

// publish has the backend publish until ctx ends. A message that is shown is
// published, also where that is its end.
func (d *demo) publish(ctx context.Context, backend *session.Session, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		lamp := demoLamps[i%len(demoLamps)]
		payload := fmt.Sprintf("#%d level %d%%", i+1, i*10%110)
		d.mu.Lock()
		note := ""
		if lamp.group == "" {
			d.doomed++
			note = "a mistake: no octet 300"
		} else {
			d.down.leave(payload)
		}
		d.line("message", lamp.topic, payload, note)
		d.mu.Unlock()
		if err := publishInTime(ctx, backend, lamp.topic, payload); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func publishInTime(ctx context.Context, backend *session.Session, topic, payload string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoPatience)
	defer cancel()
	return backend.Publish(ctx, topic, []byte(payload), 1, false)
}

// settle waits for what is on its way, as long as something of it arrives, and
// returns how the bridge stands then. It looks again and again: a loss is counted, and nobody is told of it.
func (d *demo) settle(b *bridge.Bridge) bridge.Status {
	const patience = 5 * time.Second
	last := -1
	for end := time.Now(); ; time.Sleep(time.Millisecond) {
		s := b.Status()
		d.mu.Lock()
		left := len(d.down.awaited) + len(d.up.awaited) + d.doomed - dropsForMistake(s)
		d.mu.Unlock()
		if left != last {
			last, end = left, time.Now().Add(patience)
		}
		if left <= 0 || time.Now().After(end) {
			return s
		}
	}
}

// dropsForMistake is how many messages went nowhere since their topic gives no group.
func dropsForMistake(s bridge.Status) (n int) {
	for _, r := range s.Rules {
		n += int(r.Drops[account.ReasonBadGroup.String()])
	}
	return n
}
