//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/harness"
)

// refreshes is one run of what a bridge sends by itself: once every topic has had its message,
// the datagrams of refresh alone. The loop is what sending them costs at the least.
func (b *bench) refreshes(ctx context.Context, s scenario, c command, isLoop bool) (out sample, err error) {
	own, others := placements()
	var all processes
	defer all.stop()
	var broker *process
	if !isLoop {
		if broker, err = all.startOne(ctx, b.Lan, others, b.tool("broker", s), ready); err != nil {
			return out, err
		}
	}
	bridge, err := all.startOne(ctx, b.GW, own, c, "")
	if err != nil {
		return out, err
	}
	if !isLoop {
		if _, err := broker.awaitOf(ctx, subscribed, bridge); err != nil {
			return out, err
		}
		if err := broker.order(order{Do: doSend, Run: 1, Seconds: harness.Patience.Seconds(), Messages: s.Groups}); err != nil {
			return out, broker.withOutput(err)
		}
		if _, err := broker.await(ctx, sent, harness.Patience); err != nil {
			return out, err
		}
	}
	harness.Pause(ctx, 2*time.Second) // until they are spread
	m, err := newMeter(bridge)
	if err != nil {
		return out, err
	}
	before, err := sentBy(bridge)
	if err != nil {
		return out, err
	}
	began := time.Now()
	harness.Pause(ctx, time.Duration(b.seconds*float64(time.Second)))
	after, err := sentBy(bridge)
	if err != nil {
		return out, err
	}
	n := after - before
	out = newSample(result{InOrder: n, Seconds: time.Since(began).Seconds()}, n)
	return out, m.read(&out)
}

// sentBy is how many UDP datagrams have left the host that a process runs on.
func sentBy(p *process) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", p.Process.Pid))
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		values := strings.Fields(line)
		if len(values) == 0 || values[0] != "Udp:" {
			continue
		}
		for i, name := range names {
			if name == "OutDatagrams" && i < len(values) {
				return strconv.Atoi(values[i])
			}
		}
		names = values
	}
	return 0, fmt.Errorf("no OutDatagrams of Udp in /proc/%d/net/snmp", p.Process.Pid)
}

// runLoop sends a datagram to each group once a second, group after group, a hundred times a second
// what is due by then.
func runLoop(j job) error {
	fd, err := sendSocket(j.source(0), netip.AddrPort{})
	if err != nil {
		return err
	}
	groups := make([]*unix.RawSockaddrInet4, j.Groups)
	for i := range groups {
		groups[i] = rawAddr(j.group(i))
	}
	out, payload := newOutbox(fd, false), make([]byte, j.Sizes[0])
	began, n := time.Now(), 0
	for {
		time.Sleep(10 * time.Millisecond)
		for due := int(time.Since(began).Seconds() * float64(j.Groups)); n < due; n++ {
			if err := out.add(payload, groups[n%j.Groups]); err != nil {
				return err
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
}
