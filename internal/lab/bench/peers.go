//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"topicast/internal/lab/harness"
)

//go:embed peers/bridge.py
var pythonSource []byte

//go:embed peers/bridge.c
var cSource []byte

// What build makes and finds in the folder of a run.
const (
	cPath      = "bridge-c"
	pythonPath = "bridge.py"
)

// build puts the peers into dir. What cannot be built is reported, once, with what
// to install.
func build(ctx context.Context, dir string, say func(string, ...any)) error {
	if err := os.WriteFile(filepath.Join(dir, pythonPath), pythonSource, 0o600); err != nil {
		return err
	}
	source := filepath.Join(dir, "bridge.c")
	if err := os.WriteFile(source, cSource, 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "gcc", "-O2", "-o", filepath.Join(dir, cPath), source, "-lmosquitto").CombinedOutput()
	if err != nil {
		say("without c and csub: apt-get install gcc libc6-dev libmosquitto-dev (%v)", firstLine(out, err))
	}
	return nil
}

func firstLine(out []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		line = err.Error()
	}
	return line
}

// errMissing is the error of a peer that this machine does not have.
var errMissing = errors.New("not on this machine")

// tooling is what a run has to start programs with.
type tooling struct {
	dir          string
	self         string // this program
	python       string // "" if there is none with paho
	hasMosquitto bool
	protocol     harness.Protocol // that topicast speaks
	before       string           // another topicast, or ""
}

// findTools looks for what is not built, and reports what is missing.
func findTools(dir string, say func(string, ...any)) (tooling, error) {
	t := tooling{dir: dir}
	var err error
	if t.self, err = os.Executable(); err != nil {
		return t, err
	}
	// The distribution's python has the distribution's modules, whatever else
	// comes first in PATH.
	for _, candidate := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(candidate, "-c", "import paho.mqtt.client").Run() == nil {
			t.python = candidate
			break
		}
	}
	if t.python == "" {
		say("without python: apt-get install python3-paho-mqtt")
	}
	_, err = harness.FindMosquitto()
	if t.hasMosquitto = err == nil; !t.hasMosquitto {
		say("without the latencies: apt-get install mosquitto")
	}
	return t, nil
}

// tool is the command of one of our own programs.
func (t tooling) tool(name string, s scenario) command {
	j := job{traffic: s.traffic, Broker: brokerAddress, Mode: s.mode, Pause: s.kind == flood}
	text, err := json.Marshal(j)
	if err != nil {
		panic(err) // numbers and strings
	}
	return command{path: t.self, args: []string{"tool", name, string(text)}}
}

// peer is the command of a bridge. Some error is errMissing.
func (t tooling) peer(name string, s scenario) (command, error) {
	direction := "send"
	if s.kind == search || s.kind == paced {
		direction = "receive"
	}
	env := append(s.env(), "TOPIC="+receiveTopic)
	switch name {
	case "topicast":
		return t.topicast(s, "", 0)
	case "before", "before-10000":
		c, err := t.topicast(s, "", map[string]int{"before-10000": 10_000}[name])
		c.path = t.before
		return c, err
	case "topicast-10000":
		return t.topicast(s, "", 10_000)
	case "topicast-311":
		return t.topicast(s, "311", 0)
	case "topicast-when", "topicast-fields", "topicast-refresh":
		return t.topicast(s, strings.TrimPrefix(name, "topicast-"), 0)
	case "topicast-page", "topicast-10000-page":
		c, err := t.topicast(s, "", map[string]int{"topicast-10000-page": 10_000}[name])
		c.pages = []string{"/events?sort=trouble", "/feed"}
		return c, err
	case "loop":
		return t.tool("loop", s), nil
	case "ceiling":
		return t.tool("ceiling", s), nil
	case "mmsg":
		s.mode = modeMmsg
		return t.tool("ceiling", s), nil
	case "paho":
		return t.tool("paho", s), nil
	case "python":
		if t.python == "" {
			return command{}, errMissing
		}
		return command{path: t.python, args: []string{filepath.Join(t.dir, pythonPath), direction}, env: env}, nil
	case "c", "csub":
		path := filepath.Join(t.dir, cPath)
		if _, err := os.Stat(path); err != nil {
			return command{}, errMissing
		}
		if name == "csub" {
			direction = "count"
		}
		return command{path: path, args: []string{direction}, env: env}, nil
	}
	return command{}, fmt.Errorf("no peer %s", name)
}

// topicast writes the configuration of a scenario, with a feature that its rules use, or "", and
// other rules before its own.
func (t tooling) topicast(s scenario, feature string, others int) (command, error) {
	file := filepath.Join(t.dir, "topicast.yaml")
	err := os.WriteFile(file, []byte(configuration(s, t.protocol, feature, others)), 0o600)
	return command{path: harness.Topicast(t.dir), args: []string{"run", "--config", file}}, err
}

// configuration is topicast's, for a scenario: with its defaults in all that the
// scenario does not set.
func configuration(s scenario, protocol harness.Protocol, feature string, others int) string {
	if feature == "311" {
		protocol = "3.1.1"
	}
	var b strings.Builder
	more := map[string]string{
		"when":    `, when: "size > 8 && u8@1 == 0"`, // all of them
		"refresh": ", refresh: 1h",
	}[feature]
	if s.kind == again {
		more = ", refresh: 1s"
	}
	fmt.Fprintf(&b, "broker: {url: \"mqtt://%s\", client_id: bench, session: clean, status_topic: \"\"%s}\n", brokerAddress, protocol.Setting())
	if s.kind == search || s.kind == paced {
		group := s.group(0).String()
		if s.Groups > 1 {
			group = fmt.Sprintf("%s-%s", s.group(0).Addr(), s.group(s.Groups-1))
		}
		fmt.Fprintf(&b, "receive:\n- {name: bench, group: \"%s\", interface: iso0, topic: %s, qos: %d%s}\n", group, receiveTopic, s.QoS, more)
		return b.String()
	}
	b.WriteString("send:\n")
	rule := func(name, filter, group, source string) {
		fmt.Fprintf(&b, "- {name: %s, filter: \"%s\", qos: %d, group: \"%s\", source: %s%s}\n", name, filter, s.QoS, group, source, more)
	}
	for i := range others {
		rule(fmt.Sprint("other", i), fmt.Sprintf("other/%d/cmd", i), fmt.Sprintf("239.2.%d.%d:%d", i>>8, i&255, groupPort), gatewayAddr)
	}
	switch {
	case feature == "fields": // the number of the stream; see header
		rule("bench", "dev/#", fmt.Sprintf("239.1.{u8@2}.{u8@3}:%d", groupPort), s.source(0).String())
	case s.Answers: // the number of the payload tells requests apart; see header
		fmt.Fprintf(&b, "- {name: bench, filter: \"dev/#\", qos: %d, host: \"%s\", source: %s, answer: {topic: answers, within: 1s, match: \"u32@4\"}}\n", s.QoS, s.group(0), s.source(0))
	case s.Host:
		fmt.Fprintf(&b, "- {name: bench, filter: \"dev/#\", qos: %d, host: \"%s\", source: %s}\n", s.QoS, s.group(0), s.source(0))
	case s.Groups == 1:
		rule("bench", "dev/#", s.group(0).String(), s.source(0).String())
	case s.Sources == 1:
		rule("bench", "dev/{n}/cmd", fmt.Sprintf("239.1.{n>>8}.{n&255}:%d", groupPort), s.source(0).String())
	default:
		for i := range s.topics() {
			rule(fmt.Sprint("bench", i), s.topic(i), s.group(i%s.Groups).String(), s.source(i%s.Groups).String())
		}
	}
	return b.String()
}
