//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"topicast/internal/lab/harness"
)

// brokerSetup is how mosquitto differs from its default settings.
type brokerSetup struct {
	deep     bool // no limit to its queue
	eager    bool // nor to what is in flight
	tls      bool // with certificates on both sides
	password bool
	refuse   string   // a filter that it grants nobody
	limits   *limiter // that stands before it; nil: none
}

const (
	brokerHost     = "10.0.0.1"
	brokerAddress  = brokerHost + ":1883" // for the bridge
	limiterAddress = brokerHost + ":1884"
	localAddress   = "127.0.0.1:1883"
)

func (b brokerSetup) url() string {
	if b.tls {
		return "mqtts://" + brokerHost + ":8883"
	}
	if b.limits != nil {
		return "mqtt://" + limiterAddress
	}
	return "mqtt://" + brokerAddress
}

// brokerConfig is the lines of its file: a listener for the bridge, and one for the
// publisher and the subscriber, which are on the same host and always let in.
func (r *rig) brokerConfig() []string {
	lines := []string{"per_listener_settings true", "persistence true", "persistence_location " + r.dir + "/"}
	if r.broker.deep {
		lines = append(lines, "max_queued_messages 0")
	}
	if r.broker.eager {
		lines = append(lines, "max_inflight_messages 0")
	}
	switch {
	case r.broker.tls:
		lines = append(lines, "listener 8883 "+brokerHost, "allow_anonymous true", "require_certificate true",
			"cafile "+r.file("broker-ca.pem"), "certfile "+r.file("broker.pem"), "keyfile "+r.file("broker.key"))
	case r.broker.password:
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous false", "password_file "+r.file("users"))
	case r.broker.refuse != "":
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous true",
			"plugin "+dynamicSecurity, "plugin_opt_config_file "+r.file("roles.json"))
	default:
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous true")
	}
	return append(lines, "listener 1883 127.0.0.1", "allow_anonymous true")
}

// startBroker starts mosquitto and waits until it answers.
func (r *rig) startBroker() error {
	p, err := harness.StartMosquitto(r.ctx, r.Lan, r.file("mosquitto.conf"), localAddress, r.brokerConfig()...)
	if p != nil {
		r.mosquitto = p
		r.processes = append(r.processes, harness.LoggedProcess{Name: fmt.Sprintf("mosquitto-%d", len(r.processes)), Process: p})
	}
	return err
}

// startLimiter puts the limits in front of the broker, where there are any.
func (r *rig) startLimiter() error {
	if r.broker.limits == nil {
		return nil
	}
	r.broker.limits.behind = func(ctx context.Context) (net.Conn, error) { return harness.Dial(ctx, r.Lan, localAddress) }
	return r.Lan.Do(func() error {
		at, err := net.Listen("tcp", limiterAddress)
		if err == nil {
			go r.broker.limits.serve(r.ctx, at)
		}
		return err
	})
}

// restartBroker starts it again, or fails the row.
func (r *rig) restartBroker() {
	if err := r.startBroker(); err != nil {
		r.fail("%v", err)
	}
}

// stopBroker ends it with SIGTERM: it saves what it has.
func (r *rig) stopBroker() {
	if err := r.mosquitto.Stop(); err != nil {
		r.addNote("mosquitto ended with %v", err)
	}
}

// saveBroker has the broker write its sessions to disk, so that they outlive
// SIGKILL (mosquitto(8), SIGUSR1).
func (r *rig) saveBroker() {
	if err := r.mosquitto.Process.Signal(syscall.SIGUSR1); err != nil {
		r.fail("SIGUSR1: %v", err)
	}
	saved := r.until(harness.Patience, func() bool {
		_, err := os.Stat(r.file("mosquitto.db"))
		return err == nil
	})
	if !saved {
		r.fail("mosquitto does not save its sessions")
	}
}
