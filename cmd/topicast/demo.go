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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge"
	"topicast/bridge/broker"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/configs"
)

func newDemoCommand() *cobra.Command {
	o := demoOptions{length: 10 * time.Second, every: 500 * time.Millisecond}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the bridge at work, on this machine alone",
		Long: `Show the bridge at work: an MQTT broker, a backend that publishes, a device that
listens to multicast groups, and the bridge between them, all in this one
process. Everything stays on the loopback interface; nothing needs to be
installed or set up, and no privilege is needed.

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
	return c
}

type demoOptions struct{ length, every time.Duration }

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

// demo is the show: what was published, what was heard, and the line for each.
type demo struct {
	out    io.Writer
	began  time.Time
	source netip.Addr

	mu        sync.Mutex
	published int
	doomed    int                  // published to no group, on purpose
	awaited   map[string]time.Time // payloads on their way, by when they were published
	delays    []time.Duration
	foreign   int // heard from another source than asked for
}

func runDemo(ctx context.Context, o demoOptions, out, errOut io.Writer) error {
	if o.every <= 0 || o.length < 0 {
		return usageError(errors.New("--every must be more than 0s, and --for not less"))
	}
	if o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.length)
		defer cancel()
	}
	d := &demo{out: out, awaited: make(map[string]time.Time)}
	b, err := broker.Start(broker.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	lo, source, err := loopback()
	if err != nil {
		return err
	}
	d.source = source
	cfg, text, err := demoConfig(b.URL(), lo, source)
	if err != nil {
		return err
	}
	d.introduce(b.URL(), text)

	devices, err := d.listen(lo)
	if err != nil {
		return err
	}
	defer devices.stop()
	// Bridge and backend outlive ctx until the last datagram has been heard.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
	bridged, err := newBridge(cfg, log)
	if err != nil {
		stop()
		return err
	}
	backend, err := session.New(session.Options{URLs: []string{b.URL()}, ClientID: "backend", Clean: true, Logger: log,
		Handle: func([]session.Message) {}})
	if err != nil {
		stop()
		return err
	}
	var parts sync.WaitGroup
	parts.Go(func() { bridged.Run(running) })
	parts.Go(func() { backend.Run(running) })
	defer parts.Wait()
	defer stop()

	if err := d.ready(ctx, bridged, backend); err != nil {
		return err
	}
	if err := d.publish(ctx, backend, o.every); err != nil {
		return err
	}
	d.settle()
	return d.summarize(bridged.Status())
}

// loopback is the loopback interface and the address on it to send from: one
// that nothing would choose by itself, where the system has more than one.
func loopback() (name string, source netip.Addr, err error) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return "", netip.Addr{}, err
	}
	source = netip.MustParseAddr("127.0.0.1")
	if runtime.GOOS == "linux" { // there, all of 127.0.0.0/8 is local
		source = netip.MustParseAddr("127.0.0.2")
	}
	for _, i := range interfaces {
		if i.Loopback && i.Up {
			return i.Name, source, nil
		}
	}
	return "", netip.Addr{}, errors.New("no loopback interface is up; the demo needs one (ip link set lo up)")
}

// demoConfig is a configuration as a user would write it, read as a user's is.
func demoConfig(url, lo string, source netip.Addr) (*configs.Config, string, error) {
	text := fmt.Sprintf(`broker:
  url: %s
send:
  - name: lamps
    filter: demo/{floor}/lamp/{id}/set
    group: 239.255.{floor}.{id}:30000
    source: %s
    interface: %s
`, url, source, lo)
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

func (d *demo) introduce(url, config string) {
	fmt.Fprintf(d.out, `topicast demo: everything in this one process, over the loopback interface

  backend ──▶ MQTT broker      ──▶ topicast       ──▶ multicast groups ──▶ device
              %-15s      from %s

The configuration:

%s
`, strings.TrimPrefix(url, "mqtt://"), d.source, indent(config))
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}

// listeners are the device's ears, one a group.
type listeners struct {
	receivers []*multicast.Receiver
	done      sync.WaitGroup
}

func (l *listeners) stop() {
	for _, r := range l.receivers {
		r.Close()
	}
	l.done.Wait()
}

// listen joins the lamps' groups and tells what arrives.
func (d *demo) listen(lo string) (*listeners, error) {
	l := &listeners{}
	for _, lamp := range demoLamps {
		if lamp.group == "" {
			continue
		}
		r, err := multicast.Listen(multicast.ReceiverOptions{Group: netip.MustParseAddrPort(lamp.group), Interface: lo})
		if err != nil {
			l.stop()
			return nil, err
		}
		l.receivers = append(l.receivers, r)
		l.done.Go(func() {
			batch := make([]multicast.Datagram, 16)
			for {
				n, err := r.Receive(batch)
				if err != nil {
					return // closed
				}
				for _, got := range batch[:n] {
					d.heard(got, lo)
				}
			}
		})
	}
	return l, nil
}

// ready waits until messages can flow.
func (d *demo) ready(ctx context.Context, b *bridge.Bridge, backend *session.Session) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// publish has the backend publish until ctx ends.
func (d *demo) publish(ctx context.Context, backend *session.Session, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		lamp := demoLamps[i%len(demoLamps)]
		payload := fmt.Sprintf("#%d brightness %d%%", i+1, i*10%110)
		d.mu.Lock()
		d.published++
		note := ""
		if lamp.group == "" {
			d.doomed++
			note = "a mistake: an octet ends at 255"
		} else {
			d.awaited[payload] = time.Now()
		}
		d.line("message", lamp.topic, payload, note)
		d.mu.Unlock()
		if err := backend.Publish(ctx, lamp.topic, []byte(payload), 1, false); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// heard tells of a datagram at the device.
func (d *demo) heard(got multicast.Datagram, lo string) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	sent, ours := d.awaited[string(got.Payload)]
	if !ours {
		return // another demo's, on the same machine
	}
	delete(d.awaited, string(got.Payload))
	delay := now.Sub(sent)
	d.delays = append(d.delays, delay)
	if got.Source.Addr() != d.source {
		d.foreign++
	}
	d.line("datagram", got.Group.String(), string(got.Payload),
		fmt.Sprintf("from %s on %s, %.1f ms later", got.Source, lo, delay.Seconds()*1000))
}

// line tells of one thing that happened. Callers hold mu.
func (d *demo) line(what, where, payload, rest string) {
	text := fmt.Sprintf("%7.3fs  %-8s  %-20s  %-20s  %s", time.Since(d.began).Seconds(), what, where, payload, rest)
	fmt.Fprintln(d.out, strings.TrimRight(text, " "))
}

// settle waits for what is on its way, if not for long.
func (d *demo) settle() {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		d.mu.Lock()
		left := len(d.awaited)
		d.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// summarize closes the show, and fails where it did not show what it promises.
func (d *demo) summarize(s bridge.Status) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, "\n%s published, %s heard: %d from %s, %d from elsewhere, %d lost\n",
		count(d.published, "message"), count(len(d.delays), "datagram"), len(d.delays)-d.foreign, d.source, d.foreign, len(d.awaited))
	if d.doomed > 0 {
		dropped := uint64(0)
		for _, r := range s.Rules {
			dropped += r.Drops[bridge.DropBadGroup.String()]
		}
		fmt.Fprintf(d.out, "%s with the mistake went nowhere; drops counted as bad_group: %d\n", count(d.doomed, "message"), dropped)
	}
	if n := len(d.delays); n > 0 {
		slices.Sort(d.delays)
		fmt.Fprintf(d.out, "median time from the backend to the device: %.1f ms\n", d.delays[n/2].Seconds()*1000)
	}
	fmt.Fprintf(d.out, "\nnext: topicast config > topicast.yaml, edit it, topicast check, topicast run\n")
	if d.foreign > 0 || len(d.awaited) > 0 {
		return fmt.Errorf("%d datagrams lost and %d from a wrong source; topicast listen 239.255.1.7:30000 shows what arrives", len(d.awaited), d.foreign)
	}
	return nil
}
