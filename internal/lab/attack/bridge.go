//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"topicast/internal/lab/harness"
)

// webAddress is where the page of the bridge is.
const webAddress = "127.0.0.1:9479"

// clientID is the bridge's.
const clientID = "gateway-7"

// memoryLimit is what the bridge may use of the machine's memory.
const memoryLimit = 128e6

// A setup is how the bridge differs from its defaults.
type setup struct {
	url      string            // of the broker
	broker   string            // more of the section broker
	rules    int               // beside those of the attack: bystanders
	extra    map[string]string // more of an honest rule, by its name, such as "every: 1h"
	topic    map[string]string // of an honest rule that receives, in place of its own
	six      bool              // the victim that sends does so over IPv6
	follows  bool              // it sends by whatever interface has its source
	send     []string          // more rules
	receive  []string
	sections string // more of the file
	spool    string // more of the section spool; "none": there is none
	files    int    // how many descriptors it may have; 0: as many as this machine allows
}

// bystanders is how many rules there are that have no traffic.
const bystanders = 10000

func defaultSetup() setup {
	return setup{url: "mqtt://" + brokerAddress, rules: bystanders, extra: map[string]string{}, topic: map[string]string{}}
}

// config is the file of the bridge.
func (r *rig) config() string {
	var b strings.Builder
	s := r.setup
	fmt.Fprintf(&b, "broker: { url: '%s', client_id: %s, keep_alive: 5s%s%s }\nweb: { listen: '%s' }\n%s", s.url, clientID, r.protocol.Setting(), comma(s.broker), webAddress, s.sections)
	if s.spool != "none" {
		fmt.Fprintf(&b, "spool: { dir: %s%s }\n", r.spoolDir(), comma(s.spool))
	}
	source := map[string]string{victimSend: "interface: iso0, source: '" + r.sourceOf().String() + "'", neighbourSend: "interface: iso1, source: 172.18.0.1"}
	if s.follows {
		source[victimSend] = "source: '" + r.sourceOf().String() + "'"
	}
	b.WriteString("send:\n")
	for _, name := range []string{victimSend, neighbourSend} {
		filter := topics[name][:2] + "#"
		fmt.Fprintf(&b, "  - { name: %s, filter: '%s', group: '%s', %s%s }\n", name, filter, r.groupOf(name), source[name], comma(s.extra[name]))
	}
	for _, line := range s.send {
		fmt.Fprintf(&b, "  - { %s }\n", line)
	}
	for i := range s.rules * 9 / 10 {
		fmt.Fprintf(&b, "  - { name: s%d, filter: 'by/%d/#', group: '239.20.%d.%d:5000', interface: iso%d }\n", i, i, i/256, i%256, i%2)
	}
	b.WriteString("receive:\n")
	iface := map[string]string{victimReceive: "iso0", neighbourReceive: "iso1"}
	for _, name := range []string{victimReceive, neighbourReceive} {
		topic := topics[name]
		if t := s.topic[name]; t != "" {
			topic = t
		}
		fmt.Fprintf(&b, "  - { name: %s, group: '%s', interface: %s, topic: '%s'%s }\n", name, r.groupOf(name), iface[name], topic, comma(s.extra[name]))
	}
	for _, line := range s.receive {
		fmt.Fprintf(&b, "  - { %s }\n", line)
	}
	for i := range s.rules / 10 {
		// By name and port apart, but one socket for ten of them.
		fmt.Fprintf(&b, "  - { name: r%d, group: '239.30.0.%d:7000', interface: iso%d, topic: 'by/%d/{source}' }\n", i, i/10%256, i%2, i)
	}
	return b.String()
}

// group6 is the victim's over IPv6.
var group6 = netip.MustParseAddrPort("[ff15::1]:5000")

func (r *rig) groupOf(rule string) netip.AddrPort {
	if r.setup.six && rule == victimSend {
		return group6
	}
	return groups[rule]
}

// sourceOf is where the victim that sends does so from.
func (r *rig) sourceOf() netip.Addr {
	if r.setup.six {
		return gateway6
	}
	return gateway
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

func (r *rig) spoolDir() string { return r.file("spool") }

func (r *rig) writeConfig() error {
	return os.WriteFile(r.file("topicast.yaml"), []byte(r.config()), 0o600)
}

// startBridge starts topicast and waits until it is ready, if it can be.
func (r *rig) startBridge() error {
	if err := r.writeConfig(); err != nil {
		return err
	}
	if err := r.runBridge(); err != nil {
		return err
	}
	if r.attack.hostile {
		return nil
	}
	defer r.expectLimit()
	if !r.until(harness.Patience, func() bool { return r.whole() == nil || r.ended() != "" }) || r.ended() != "" {
		return fmt.Errorf("topicast is not ready: %w; %s", r.whole(), tail(r.bridge.Output()))
	}
	st, err := r.status("victim-")
	if spoken := st.Broker.Protocol; err == nil && spoken != r.protocol.Spoken() {
		err = fmt.Errorf("MQTT %s is spoken with the broker, not %s", spoken, r.protocol.Spoken())
	}
	return err
}

// expectLimit fails the row unless the bridge knows how much memory its group has: as a
// service or in a container it does, and collects its garbage sooner.
func (r *rig) expectLimit() {
	if want := fmt.Sprintf("msg=memory go_limit=%.0f\n", 0.7*memoryLimit); r.group != nil && !strings.Contains(r.bridge.Output(), want) {
		r.fail("topicast does not log %q: it does not know its control group", want)
	}
}

// runBridge only starts it. Its shell waits for the file until it is in its group.
func (r *rig) runBridge() error {
	limit := ""
	if r.setup.files > 0 {
		limit = fmt.Sprintf("ulimit -n %d && ", r.setup.files)
	}
	gate := r.file("go")
	_ = os.Remove(gate)
	script := `while ! test -e "$0"; do sleep 0.01; done; ` + limit + `exec "$@"`
	r.bridge = r.GW.Start("sh", "-c", script, gate, r.binary, "run", "--config", r.file("topicast.yaml"))
	r.processes = append(r.processes, harness.LoggedProcess{Name: fmt.Sprintf("topicast-%d", len(r.processes)), Process: r.bridge})
	if r.group != nil {
		if err := r.group.Add(r.bridge.Process.Pid); err != nil {
			return err
		}
	}
	return os.WriteFile(gate, nil, 0o600)
}

// ended says how the bridge ended, where it did.
func (r *rig) ended() string {
	select {
	case <-r.bridge.Exited():
		return r.bridge.ProcessState.String()
	default:
		return ""
	}
}

// get asks the web server of the bridge.
func (r *rig) get(path string) ([]byte, error) {
	return harness.Get(r.GW, "http://"+webAddress+path)
}

// ready is nil if the bridge says that it is.
func (r *rig) ready() error {
	if body, err := r.get("/readyz"); err != nil {
		return fmt.Errorf("%w: %s", err, tail(string(body)))
	}
	return nil
}

// whole is nil if the bridge says that all is well that can be.
func (r *rig) whole() error {
	if !r.attack.pends {
		return r.ready()
	}
	st, err := r.status("victim-")
	for _, c := range st.Conditions {
		if c.State == "pending" && (c.Name == "broker" || c.Name == "subscriptions") {
			err = fmt.Errorf("%s is %s: %s", c.Name, c.State, c.Reason)
		}
	}
	for _, s := range append(st.Rules, st.Receive...) {
		if s.State != "up" {
			err = fmt.Errorf("rule %s is %s: %s", s.Name, s.State, s.Reason)
		}
	}
	return err
}

func tail(s string) string { return s[max(0, len(s)-600):] }

// status is the part of /status that the attacks look at.
type status struct {
	Broker struct {
		Protocol string `json:"protocol"`
	} `json:"broker"`
	Conditions []ruleStatus `json:"conditions"` // by the names of their parts
	Reload     struct {
		At time.Time `json:"at"`
	} `json:"reload"`
	Rules   []ruleStatus `json:"rules"`
	Receive []ruleStatus `json:"receive"`
}

type ruleStatus struct {
	Name          string `json:"name"`
	State         string `json:"state"`
	Reason        string `json:"reason"`
	WaitingMemory int    `json:"waiting_memory"`
	WaitingDisk   int    `json:"waiting_disk"`
}

// status asks for the rules whose names contain match.
func (r *rig) status(match string) (st status, err error) {
	body, err := r.get("/status?match=" + match)
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(body, &st)
}

// waiting is how many messages of a rule wait to go on.
func (r *rig) waiting(rule string) (n int) {
	st, err := r.status(rule)
	if err != nil {
		return 0
	}
	for _, s := range append(st.Rules, st.Receive...) {
		if s.Name == rule {
			n += s.WaitingMemory + s.WaitingDisk
		}
	}
	return n
}

// awaitState waits until a rule is in a state.
func (r *rig) awaitState(rule, state string, limit time.Duration) {
	last := errors.New("interrupted")
	ok := r.until(limit, func() bool {
		var st status
		if st, last = r.status(rule); last != nil {
			return false
		}
		for _, s := range append(st.Rules, st.Receive...) {
			if s.Name == rule && s.State == state {
				return true
			}
			last = fmt.Errorf("rule %s is %s: %s", s.Name, s.State, s.Reason)
		}
		return false
	})
	if !ok {
		r.fail("not %s after %v: %v", state, limit, last)
	}
}

// counted is what the bridge counts as dropped or filtered, by rule.
func (r *rig) counted() (byRule map[string]int, err error) {
	body, err := r.get("/metrics")
	if err != nil {
		return nil, err
	}
	byRule = map[string]int{}
	for _, m := range harness.ParseMetrics(string(body)) {
		if m.Name == "topicast_drops_total" || m.Name == "topicast_filtered_total" {
			byRule[m.Labels["rule"]] += int(m.Value)
		}
	}
	for rule, n := range r.earlier {
		byRule[rule] += n
	}
	return byRule, nil
}

// lines is how many lines the bridge has logged, but for those of its start that say of a
// bystander that it is up.
func (r *rig) lines() (n int) {
	for line := range strings.Lines(r.bridge.Output()) {
		if !bystanderUp.MatchString(line) {
			n++
		}
	}
	return r.earlierLines + n
}

var bystanderUp = regexp.MustCompile(`level=INFO msg=(receiving|sending) rule=[rs]\d+ `)

// stopBridge ends it with SIGTERM, and keeps what it has counted.
func (r *rig) stopBridge() {
	var counted map[string]int
	var err error
	r.until(harness.Patience, func() bool { counted, err = r.counted(); return err == nil || r.ended() != "" })
	r.must(err)
	if err == nil {
		r.earlier = counted
	}
	_ = r.bridge.Process.Signal(os.Interrupt)
	select {
	case <-r.bridge.Exited():
	case <-time.After(harness.Patience):
		r.fail("topicast did not stop within %v", harness.Patience)
		r.bridge.Kill()
	}
	r.earlierLines = r.lines()
}

// startAgain starts it, and does not wait.
func (r *rig) startAgain() {
	r.row.restarts++
	r.must(r.runBridge())
}
