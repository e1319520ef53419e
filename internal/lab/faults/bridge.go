//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"syscall"

	"topicast/internal/lab/harness"
)

// A build is the topicast under test, and the features it has.
type build struct {
	binary string
	has    map[string]bool // spool, reload
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
	queue  string // the section queue, without a spool
}

// config is the file of the bridge.
func (r *rig) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "broker: { url: '%s', client_id: %s, keep_alive: %v%s", r.broker.url(), gatewayID, keepAlive, r.protocol.Setting())
	if r.broker.password {
		fmt.Fprintf(&b, ", username: gateway, password_file: %s", r.file("password"))
	}
	if r.broker.tls {
		fmt.Fprintf(&b, ", tls: { ca_file: %s, cert_file: %s, key_file: %s }", r.file("ca.pem"), r.file("client.pem"), r.file("client.key"))
	}
	b.WriteString(" }\n")
	fmt.Fprintf(&b, "web:\n  listen: %s\n", webAddress)
	if r.rules.queue != "" {
		fmt.Fprintf(&b, "queue: { %s }\n", r.rules.queue)
	} else if r.build.has["spool"] {
		fmt.Fprintf(&b, "spool: { dir: %s%s }\n", r.spoolDir(), comma(r.rules.spool))
	}
	rule := r.rules
	if r.way == sending {
		where := "source: '" + rule.source + "'"
		if rule.iface != "" {
			where += ", interface: " + rule.iface
		}
		fmt.Fprintf(&b, "send:\n  - { name: a, filter: f/a, group: '%v', %s%s }\n%s", rule.group, where, comma(rule.extra), rule.more)
	} else {
		where := rule.iface
		if where == "" {
			where = rule.source
		}
		fmt.Fprintf(&b, "receive:\n  - { name: a, group: '%v', interface: '%s', topic: f/a%s }\n%s", rule.group, where, comma(rule.extra), rule.more)
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
func (r *rig) spoolDir() string { return r.file("spool") }

// startBridge starts topicast and waits until the broker keeps messages for it, and
// its rules are up if they can be.
func (r *rig) startBridge() error {
	if err := os.WriteFile(r.file("topicast.yaml"), []byte(r.config()), 0o600); err != nil {
		return err
	}
	r.runBridge()
	if r.rules.absent {
		return r.awaitStatus(harness.Patience, connected)
	}
	return r.awaitUp(harness.Patience)
}

// startAgain starts it where its rule cannot be up yet.
func (r *rig) startAgain() {
	r.rules.absent = true
	if err := r.startBridge(); err != nil {
		r.fail("%v", err)
	}
}

// runBridge only starts it.
func (r *rig) runBridge() {
	run := []string{r.build.binary, "run", "--config", r.file("topicast.yaml")}
	if r.disk != "" {
		// In the process's own mount namespace, which netlab gives it.
		mount := fmt.Sprintf(`mount -t tmpfs -o %s tmpfs %s && exec "$@"`, r.disk, r.spoolDir())
		run = append([]string{"sh", "-c", mount, "sh"}, run...)
	}
	if r.manager != nil {
		run = append(r.manager.environment(), run...)
	}
	r.bridge = r.GW.Start(run[0], run[1:]...)
	r.processes = append(r.processes, harness.LoggedProcess{Name: fmt.Sprintf("topicast-%d", len(r.processes)), Process: r.bridge})
}

// killBridge ends it with SIGKILL. What it counted goes with it but for what is
// read just before.
func (r *rig) killBridge() {
	r.earlierDrops += r.drops()
	r.bridge.Kill()
}

// stopBridge ends it with SIGTERM and returns how long that took.
func (r *rig) stopBridge() time.Duration {
	r.earlierDrops += r.drops()
	began := time.Now()
	if err := r.bridge.Process.Signal(syscall.SIGTERM); err != nil {
		r.fail("SIGTERM: %v", err)
	}
	select {
	case <-r.bridge.Exited():
	case <-time.After(harness.Patience):
		r.fail("topicast did not stop within %v of SIGTERM", harness.Patience)
		r.bridge.Kill()
	}
	return time.Since(began)
}

// logged reports whether any bridge of the rig has logged the text.
func (r *rig) logged(text string) bool {
	for _, p := range r.processes {
		if strings.HasPrefix(p.Name, "topicast") && strings.Contains(p.Output(), text) {
			return true
		}
	}
	return false
}

// expectLog fails the row unless the bridge logs the text.
func (r *rig) expectLog(text string) {
	if !r.until(r.times.heal, func() bool { return r.logged(text) }) {
		r.fail("topicast's log lacks %q", text)
	}
}
