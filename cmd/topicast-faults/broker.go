//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"syscall"
)

// brokerSetup is how mosquitto differs from its default settings.
type brokerSetup struct {
	deep     bool // no limit to its queue
	eager    bool // nor to what is in flight
	tls      bool // with certificates on both sides
	password bool
	refuse   string // a filter that it grants nobody
}

const brokerHost = "10.0.0.1"

func (b brokerSetup) url() string {
	if b.tls {
		return "mqtts://" + brokerHost + ":8883"
	}
	return "mqtt://" + brokerHost + ":1883"
}

// brokerConfig has one listener for the bridge, and one for the backend and the
// witness, who are on the same host and always let in.
func (s *stage) brokerConfig() string {
	// "user root" keeps it from becoming the user mosquitto, which a user
	// namespace does not have.
	lines := []string{"user root", "per_listener_settings true", "persistence true", "persistence_location " + s.dir + "/"}
	if s.broker.deep {
		lines = append(lines, "max_queued_messages 0")
	}
	if s.broker.eager {
		lines = append(lines, "max_inflight_messages 0")
	}
	switch {
	case s.broker.tls:
		lines = append(lines, "listener 8883 "+brokerHost, "allow_anonymous true", "require_certificate true",
			"cafile "+s.file("broker-ca.pem"), "certfile "+s.file("broker.pem"), "keyfile "+s.file("broker.key"))
	case s.broker.password:
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous false", "password_file "+s.file("users"))
	case s.broker.refuse != "":
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous true",
			"plugin "+dynamicSecurity, "plugin_opt_config_file "+s.file("roles.json"))
	default:
		lines = append(lines, "listener 1883 "+brokerHost, "allow_anonymous true")
	}
	lines = append(lines, "listener 1883 127.0.0.1", "allow_anonymous true")
	return strings.Join(lines, "\n") + "\n"
}

// startBroker starts mosquitto and waits until it answers.
func (s *stage) startBroker() error {
	program, err := findMosquitto()
	if err != nil {
		return err
	}
	file := s.file("mosquitto.conf")
	if err := os.WriteFile(file, []byte(s.brokerConfig()), 0o600); err != nil {
		return err
	}
	s.mosquitto = s.Lan.Start(program, "-c", file)
	s.started = append(s.started, named{fmt.Sprintf("mosquitto-%d", len(s.started)), s.mosquitto})
	answers := s.until(patience, func() bool {
		conn, err := s.dialLocal(s.ctx)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if !answers {
		return fmt.Errorf("mosquitto does not answer; it said: %s", s.mosquitto.Output())
	}
	return nil
}

// restartBroker starts it again, or fails the row.
func (s *stage) restartBroker() {
	if err := s.startBroker(); err != nil {
		s.fail("%v", err)
	}
}

// stopBroker ends it with SIGTERM: it saves what it has.
func (s *stage) stopBroker() {
	if err := s.mosquitto.Stop(); err != nil {
		s.tell("mosquitto ended with %v", err)
	}
}

// saveBroker has the broker write its sessions to disk, so that they outlive
// SIGKILL (mosquitto(8), SIGUSR1).
func (s *stage) saveBroker() {
	if err := s.mosquitto.Process.Signal(syscall.SIGUSR1); err != nil {
		s.fail("SIGUSR1: %v", err)
	}
	saved := s.until(patience, func() bool {
		_, err := os.Stat(s.file("mosquitto.db"))
		return err == nil
	})
	if !saved {
		s.fail("mosquitto does not save its sessions")
	}
}

// findMosquitto finds the broker; Debian's is where an ordinary user's PATH does
// not look.
func findMosquitto() (string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	return path, err
}

// dialLocal connects to the broker from its own host.
func (s *stage) dialLocal(ctx context.Context) (net.Conn, error) {
	return s.dial(ctx, "127.0.0.1:1883")
}

// dialFront connects to the broker where the bridge does.
func (s *stage) dialFront(ctx context.Context) (net.Conn, error) {
	return s.dial(ctx, brokerHost+":1883")
}

func (s *stage) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return s.Lan.Dial(ctx, "tcp", address)
}
