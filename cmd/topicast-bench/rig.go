//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"topicast/bridge/netlab"
)

// Where everything is; see netlab.Rig.
const (
	gatewayAddr  = "172.17.0.1"
	deviceAddr   = "172.17.0.50"
	brokerHost   = "10.0.0.1"
	brokerPort   = "1883"
	receiveTopic = "dev/in"
	mostSources  = 100 // 172.17.1.1 and on
)

// A rig is the network that everything runs in.
type rig struct {
	*netlab.Rig
	dir string // for configurations
}

// newRig makes the network. It is gone at the end of t.
func newRig(t testing.TB, dir string) (*rig, error) {
	r := &rig{Rig: netlab.NewRig(t), dir: dir}
	for i := range mostSources {
		r.GW.Addr("iso0", fmt.Sprintf("172.17.1.%d/16", i+1))
	}
	for _, h := range []*netlab.Host{r.GW, r.Dev} {
		// A script has all its groups on one socket, and there are more than 20.
		h.Sysctl("net.ipv4.igmp_max_memberships", "100000")
	}
	for _, end := range []struct {
		host *netlab.Host
		dev  string
	}{{r.GW, "iso0"}, {r.GW, "priv0"}, {r.Dev, "eth0"}, {r.Lan, "eth0"}} {
		if err := end.host.Do(func() error { return segmentsWhole(end.dev) }); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", end.dev, end.host.Name(), err)
		}
	}
	return r, nil
}

// segmentsWhole lets a cable carry a segmented send in one piece again, as a
// card with segmentation offload takes it. A lab has that off, for its captures.
func segmentsWhole(dev string) error {
	const most = 65535 // GSO_MAX_SEGS
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetGSOMaxSegs(link, most)
}

// mosquitto starts a broker on lan and waits until it answers.
func (r *rig) mosquitto(ctx context.Context, program string, tuned bool) (*process, error) {
	// "user root" keeps it from becoming the user mosquitto, which a user
	// namespace does not have.
	config := []string{
		"listener " + brokerPort + " " + brokerHost, "allow_anonymous true", "persistence false", "log_type error", "user root",
	}
	if tuned {
		config = append(config, "max_inflight_messages 0", "max_queued_messages 0", "set_tcp_nodelay true", "connection_messages false")
	}
	file := filepath.Join(r.dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	p, err := start(r.Lan, placement{}, command{path: program, args: []string{"-c", file}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		conn, err := r.Lan.Dial(ctx, "tcp", net.JoinHostPort(brokerHost, brokerPort))
		if err == nil {
			conn.Close()
			return p, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("mosquitto does not answer: %w", p.stop(err))
		case <-p.exited:
			return nil, p.stop(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A keeper is what netlab takes for a test, for it serves the tests: a failure
// to build the network ends the program.
type keeper struct {
	testing.TB // not there: the methods that netlab calls are below
	cleanups   []func()
}

type rigFailure struct{ reason string }

func (k *keeper) Helper()                           {}
func (k *keeper) Failed() bool                      { return false }
func (k *keeper) Logf(string, ...any)               {}
func (k *keeper) Cleanup(f func())                  { k.cleanups = append(k.cleanups, f) }
func (k *keeper) Errorf(format string, args ...any) { k.Fatalf(format, args...) }
func (k *keeper) Skipf(format string, args ...any)  { k.Fatalf(format, args...) }
func (k *keeper) Fatal(args ...any)                 { panic(rigFailure{fmt.Sprint(args...)}) }
func (k *keeper) Fatalf(format string, args ...any) { panic(rigFailure{fmt.Sprintf(format, args...)}) }

// keep calls f, then what f asked to be called at the end, the last first.
func keep(f func(testing.TB) error) (err error) {
	k := &keeper{}
	defer func() {
		for i := len(k.cleanups) - 1; i >= 0; i-- {
			k.cleanups[i]()
		}
		switch r := recover().(type) {
		case nil:
		case rigFailure:
			err = fmt.Errorf("make the network: %s", r.reason)
		default:
			panic(r)
		}
	}()
	return f(k)
}
