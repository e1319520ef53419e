package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"topicast/bridge"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
)

// demo is the show: what was published, what was heard, and the line for each.
type demo struct {
	out    io.Writer
	began  time.Time
	source netip.Addr        // of the bridge
	device *multicast.Sender // with which the lamps answer

	mu      sync.Mutex
	doomed  int // published to no group, on purpose
	down    crossing
	up      crossing
	foreign int // heard from another source than asked for
}

// crossing is one way across the bridge.
type crossing struct {
	sent    int
	awaited map[string]time.Time // payloads on their way, by when they left
	delays  []time.Duration
}

func newCrossing() crossing { return crossing{awaited: make(map[string]time.Time)} }

func (c *crossing) leave(payload string) {
	c.sent++
	c.awaited[payload] = time.Now()
}

// arrive says how long a payload took; no if it is not one of ours, but another
// demo's on the same machine.
func (c *crossing) arrive(payload string) (delay time.Duration, ours bool) {
	left, ours := c.awaited[payload]
	if !ours {
		return 0, false
	}
	delete(c.awaited, payload)
	delay = time.Since(left)
	c.delays = append(c.delays, delay)
	return delay, true
}

// median is that of the delays, in milliseconds.
func (c *crossing) median() float64 {
	slices.Sort(c.delays)
	return c.delays[len(c.delays)/2].Seconds() * 1000
}

func (d *demo) introduce(url, config string) {
	fmt.Fprintf(d.out, `topicast demo: everything in this one process, over the loopback interface

  backend ◀─▶ MQTT broker     ◀─▶ topicast       ◀─▶ multicast groups ◀─▶ device
              %-15s     from %s

The configuration:

%s
`, strings.TrimPrefix(url, "mqtt://"), d.source, indent(config))
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}

// heard tells of a datagram at the device, which answers with its state.
func (d *demo) heard(got multicast.Datagram) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delay, ours := d.down.arrive(string(got.Payload))
	if !ours {
		return
	}
	if got.Source.Addr() != d.source {
		d.foreign++
	}
	d.line("datagram", got.To.String(), string(got.Payload),
		fmt.Sprintf("from %s, %s ms", got.Source.Addr(), milliseconds(delay)))

	state := strings.Replace(string(got.Payload), "level", "is at", 1)
	to := netip.AddrPortFrom(got.To.Addr(), got.To.Port()+1)
	d.up.leave(state)
	d.line("datagram", to.String(), state, "the device answers")
	// One that does not leave does not arrive, and is found missing.
	_, _ = d.device.Send([]multicast.Datagram{{To: to, Payload: []byte(state)}}, func(int, error) {})
}

// told tells of the states that come to the backend.
func (d *demo) told(batch []session.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range batch {
		if delay, ours := d.up.arrive(string(m.Payload)); ours {
			d.line("message", string(m.Topic), string(m.Payload), fmt.Sprintf("at the backend, %s ms", milliseconds(delay)))
		}
	}
}

// line tells of one thing that happened, in 80 columns. Callers hold mu.
func (d *demo) line(what, where, payload, rest string) {
	text := fmt.Sprintf("%7.3fs  %-8s  %-19s  %-14s  %s", time.Since(d.began).Seconds(), what, where, payload, rest)
	fmt.Fprintln(d.out, strings.TrimRight(text, " "))
}

// summarize closes the show, and fails where it did not show what it promises.
func (d *demo) summarize(s bridge.Status, backend string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	heard, lost := len(d.down.delays), len(d.down.awaited)
	fmt.Fprintf(d.out, "\n%s published, %s heard, %d lost\n",
		count(d.down.sent+d.doomed, "message"), count(heard, "datagram"), lost)
	fmt.Fprintf(d.out, "%s from %s, %d from elsewhere\n", count(heard-d.foreign, "datagram"), d.source, d.foreign)
	fmt.Fprintf(d.out, "%s from the device, %s at the backend: %d lost\n",
		count(d.up.sent, "datagram"), count(len(d.up.delays), "message"), len(d.up.awaited))
	if d.doomed > 0 {
		fmt.Fprintf(d.out, "%s with the mistake went nowhere; drops counted as bad_group: %d\n", count(d.doomed, "message"), dropsForMistake(s))
	}
	if heard > 0 && len(d.up.delays) > 0 {
		fmt.Fprintf(d.out, "median time from the backend to the device: %.1f ms, and back: %.1f ms\n", d.down.median(), d.up.median())
	}
	fmt.Fprintf(d.out, "spoken with the broker: MQTT %s by the bridge, %s by the backend\n", s.Broker.Protocol, backend)
	fmt.Fprintf(d.out, "\nnext: topicast config > topicast.yaml, edit it, topicast check, topicast run\n")
	switch {
	case d.foreign > 0 || lost > 0:
		return fmt.Errorf("%d datagrams lost and %d from a wrong source; topicast listen 239.255.1.7:30000 shows what arrives", lost, d.foreign)
	case len(d.up.awaited) > 0:
		return fmt.Errorf("%d states of the device did not reach the backend", len(d.up.awaited))
	}
	return nil
}

// milliseconds is three digits or so: more do not fit on the line of a slow machine.
func milliseconds(d time.Duration) string {
	ms := d.Seconds() * 1000
	if ms < 100 {
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}
