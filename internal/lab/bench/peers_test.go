//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"topicast/configs"
)

func TestEveryScenarioHasAConfigurationThatHolds(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			const others = 3
			file := filepath.Join(t.TempDir(), "topicast.yaml")
			if err := os.WriteFile(file, []byte(configuration(s, others)), 0o600); err != nil {
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
				if got, want := targets[0].Group, s.group(n%s.Groups); got != want {
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
