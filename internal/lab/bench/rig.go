//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

// Where everything is; see netlab.Rig.
const (
	gatewayAddr   = "172.17.0.1"
	deviceAddr    = "172.17.0.50"
	brokerHost    = "10.0.0.1"
	brokerPort    = "1883"
	brokerAddress = brokerHost + ":" + brokerPort
	receiveTopic  = "dev/in"
	mostSources   = 100 // 172.17.1.1 and on
)

// A rig is the network that everything runs in.
type rig struct {
	*netlab.Rig
	dir string // for configurations
}

// newRig makes the network. It is gone at the end of t.
func newRig(t netlab.T, dir string) *rig {
	r := &rig{Rig: netlab.NewRig(t), dir: dir}
	for i := range mostSources {
		r.GW.Addr("iso0", fmt.Sprintf("172.17.1.%d/16", i+1))
	}
	for _, h := range []*netlab.Host{r.GW, r.Dev} {
		// A script has all its groups on one socket, and there are more than 20.
		h.ManyMemberships()
	}
	for _, end := range []struct {
		host *netlab.Host
		dev  string
	}{{r.GW, "iso0"}, {r.GW, "priv0"}, {r.Dev, "eth0"}, {r.Lan, "eth0"}} {
		// As a card with segmentation offload takes it.
		end.host.WholeSegments(end.dev)
	}
	return r
}

// mosquitto starts a broker on lan and waits until it answers.
func (r *rig) mosquitto(ctx context.Context, tuned bool) (*netlab.Process, error) {
	config := []string{"listener " + brokerPort + " " + brokerHost, "allow_anonymous true", "persistence false", "log_type error"}
	if tuned {
		config = append(config, "max_inflight_messages 0", "max_queued_messages 0", "set_tcp_nodelay true", "connection_messages false")
	}
	return harness.StartMosquitto(ctx, r.Lan, filepath.Join(r.dir, "mosquitto.conf"), brokerAddress, config...)
}
