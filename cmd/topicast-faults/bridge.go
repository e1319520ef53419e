//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"syscall"
)

// A build is the topicast under test, and what it knows.
type build struct {
	binary string
	knows  map[string]bool // spool, reload
}

// keepAlive is the shortest there is.
const keepAlive = 5 * time.Second

// ruleSetup is the rule that carries the traffic.
type ruleSetup struct {
	source string // the address datagrams leave from
	iface  string // empty: the rule names only the address
	group  netip.AddrPort
	extra  string // more of the rule, such as "max_age: 1s"
	more   string // more rules, as lines of the list
	absent bool   // the rule cannot be up at the start
	spool  string // more of the section spool, such as "max_size: 64KiB"
}

// config is the file of the bridge.
func (s *stage) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "broker:\n  url: %s\n  client_id: %s\n  keep_alive: %v\n", s.broker.url(), gatewayID, keepAlive)
	if s.broker.password {
		fmt.Fprintf(&b, "  username: gateway\n  password_file: %s\n", s.file("password"))
	}
	if s.broker.tls {
		fmt.Fprintf(&b, "  tls: { ca_file: %s, cert_file: %s, key_file: %s }\n", s.file("ca.pem"), s.file("client.pem"), s.file("client.key"))
	}
	fmt.Fprintf(&b, "web:\n  listen: %s\n", webAddress)
	if s.build.knows["spool"] {
		fmt.Fprintf(&b, "spool: { dir: %s%s }\n", s.spoolDir(), comma(s.rules.spool))
	}
	r := s.rules
	if s.way == sending {
		where := "source: '" + r.source + "'"
		if r.iface != "" {
			where += ", interface: " + r.iface
		}
		fmt.Fprintf(&b, "send:\n  - { name: a, filter: f/a, group: '%v', %s%s }\n%s", r.group, where, comma(r.extra), r.more)
	} else {
		where := r.iface
		if where == "" {
			where = r.source
		}
		fmt.Fprintf(&b, "receive:\n  - { name: a, group: '%v', interface: '%s', topic: f/a%s }\n%s", r.group, where, comma(r.extra), r.more)
	}
	return b.String()
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

// spoolDir is where the spool is.
func (s *stage) spoolDir() string { return s.file("spool") }

// startBridge starts topicast and waits until the broker keeps messages for it, and
// its rules are up if they can be.
func (s *stage) startBridge() error {
	if err := os.WriteFile(s.file("topicast.yaml"), []byte(s.config()), 0o600); err != nil {
		return err
	}
	s.runBridge()
	if s.rules.absent {
		return s.awaitStatus(patience, connected)
	}
	return s.awaitUp(patience)
}

// runBridge only starts it.
func (s *stage) runBridge() {
	run := []string{s.build.binary, "run", "--config", s.file("topicast.yaml")}
	if s.disk != "" {
		// In the process's own mount namespace, which netlab gives it.
		mount := fmt.Sprintf(`mount -t tmpfs -o %s tmpfs %s && exec "$@"`, s.disk, s.spoolDir())
		run = append([]string{"sh", "-c", mount, "sh"}, run...)
	}
	s.bridge = s.GW.Start(run[0], run[1:]...)
	s.started = append(s.started, named{fmt.Sprintf("topicast-%d", len(s.started)), s.bridge})
}

// killBridge ends it with SIGKILL. What it counted goes with it but for what is
// read just before.
func (s *stage) killBridge() {
	s.retired += s.drops()
	s.bridge.Kill()
}

// stopBridge ends it with SIGTERM and says how long that took.
func (s *stage) stopBridge() time.Duration {
	s.retired += s.drops()
	began := time.Now()
	if err := s.bridge.Process.Signal(syscall.SIGTERM); err != nil {
		s.fail("SIGTERM: %v", err)
	}
	select {
	case <-s.bridge.Exited():
	case <-time.After(patience):
		s.fail("topicast did not stop within %v of SIGTERM", patience)
		s.bridge.Kill()
	}
	return time.Since(began)
}

// said reports whether any bridge of the stage has logged the text.
func (s *stage) said(text string) bool {
	for _, p := range s.started {
		if strings.HasPrefix(p.name, "topicast") && strings.Contains(p.Output(), text) {
			return true
		}
	}
	return false
}

// expectLog fails the row unless the bridge logs the text.
func (s *stage) expectLog(text string) {
	if !s.until(s.times.heal, func() bool { return s.said(text) }) {
		s.fail("topicast's log does not say %q", text)
	}
}
