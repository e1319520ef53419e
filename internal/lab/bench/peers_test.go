//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"topicast/configs"
	"topicast/internal/lab/harness"
)

func TestTopicastSpeaksTheVersionThatIsAskedFor(t *testing.T) {
	for asked, want := range map[harness.Protocol]configs.Protocol{"auto": "auto", "5": "5", "3.1.1": "3.1.1"} {
		for feature, want := range map[string]configs.Protocol{"": want, "311": "3.1.1"} {
			file := filepath.Join(t.TempDir(), "topicast.yaml")
			if err := os.WriteFile(file, []byte(configuration(scenarios[0], asked, feature, 0)), 0o600); err != nil {
				t.Fatal(err)
			}
			if c, err := configs.Load(file, nil); err != nil || c.Broker.Protocol != want {
				t.Errorf("--protocol %s, feature %q: %+v, %v, want %s", asked, feature, c, err, want)
			}
		}
	}
	if o, err := readFlags("--protocol", "5"); err != nil || o.protocol != "5" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestEveryScenarioHasAConfigurationThatHolds(t *testing.T) {
	for _, s := range scenarios {
		feature := "" // the scenario's last, which is the most
		if last, ok := strings.CutPrefix(s.peers[len(s.peers)-1], "topicast-"); ok && last != "10000" {
			feature = last
		}
		t.Run(s.name, func(t *testing.T) {
			const others = 3
			file := filepath.Join(t.TempDir(), "topicast.yaml")
			if err := os.WriteFile(file, []byte(configuration(s, "auto", feature, others)), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := configs.Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.Warnings {
				t.Error("warning:", w)
			}
			if s.kind == search || s.kind == paced {
				return
			}
			// Each topic goes to the group and from the source that the peers use.
			for n := range s.topics() {
				targets := c.Table.Lookup(s.topic(n), nil)
				if len(targets) != 1 {
					t.Fatalf("%s has %d targets", s.topic(n), len(targets))
				}
				rule := c.Table.Send()[targets[0].Rule]
				payload := make([]byte, headerSize)
				header{stream: uint32(n % s.Groups)}.put(payload)
				to := targets[0].To
				if targets[0].ByPayload != nil {
					to, _ = targets[0].ByPayload.Of(payload, nil)
				}
				if !rule.When.Matches(nil, nil, payload, nil) {
					t.Errorf("%s is filtered", s.topic(n))
				}
				if got, want := to, s.group(n%s.Groups); got != want {
					t.Errorf("%s goes to %v, want %v", s.topic(n), got, want)
				}
				if got, want := rule.Binding.Source.String(), s.source(n%s.Groups).String(); got != want+"/32" {
					t.Errorf("%s leaves from %v, want %v", s.topic(n), got, want)
				}
				if rule.QoS != s.QoS {
					t.Errorf("%s is subscribed to with QoS %d, want %d", s.topic(n), rule.QoS, s.QoS)
				}
			}
		})
	}
}
