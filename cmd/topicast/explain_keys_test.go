package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"topicast/configs"
)

// Whoever asks where a message goes is to see each key that has a say in it: the
// reference has all of them, and values that differ from the defaults.
func TestExplainHasALineForEachKeyOfARule(t *testing.T) {
	elsewhere := map[string]string{ // keys that are part of another line
		"name": "rule ", "filter": ": filter ", "source_port": ", any free port", "when_over": "\n  rate", "port": ": groups ",
		"host": "\n  group",
	}
	for list, ask := range map[string]string{"send:": "site/3/lamp/7/set", "receive:": "239.12.255.254:9522"} {
		_, out, _ := topicast(t, "explain", ask, "--config", "../../configs/reference.yaml")
		keys := keysOf(list)
		if len(keys) < 8 {
			t.Fatalf("%s has %d keys in the reference: %v", list, len(keys), keys)
		}
		for _, key := range keys {
			mark := elsewhere[key]
			if mark == "" {
				mark = "\n  " + key
			}
			switch {
			case list == "send:" && key == "qos":
				mark = ", qos "
			case list == "receive:" && key == "group":
				mark = ": groups "
			}
			if !strings.Contains(out, mark) {
				t.Errorf("explain %s does not tell of %s:\n%s", ask, key, out)
			}
		}
	}
}

// keysOf are the keys of the rule that a list of the reference has.
func keysOf(list string) (keys []string) {
	in := false
	key := regexp.MustCompile(`^(?:  - |    )([a-z_]+):`)
	for line := range strings.Lines(string(configs.Reference)) {
		if line[0] != ' ' && line[0] != '\n' && line[0] != '#' {
			in = strings.TrimSpace(line) == list
		}
		if m := key.FindStringSubmatch(line); in && m != nil && !slices.Contains(keys, m[1]) {
			keys = append(keys, m[1])
		}
	}
	return keys
}
