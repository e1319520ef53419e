package configs

import (
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func TestAnswerIsATable(t *testing.T) {
	const rule = `send: [{filter: "q/{id}", host: "192.0.2.{id}:1010", interface: eth0, answer: `
	for text, want := range map[string]string{
		`""`:                  "",
		`{topic: "a/{id}"}`:   "{topic: a/{id}, within: 500ms, tries: 1, match: source}",
		`{topic: a, none: n}`: "{topic: a, within: 500ms, tries: 1, match: source, none: n}",
		`{topic: a, within: 1s, tries: 3, match: u16@0, payload: json}`: "{topic: a, within: 1s, tries: 3, match: u16@0, payload: json}",
	} {
		if got := mustLoad(t, rule+text+"}]", nil).Table.Send()[0].Answer.String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if a := mustLoad(t, rule+"{topic: a, within: 1s, tries: 3}}]", nil).Table.Send()[0].Answer; a.Within != time.Second || a.Tries != 3 || a.Encoding != mapping.EncodingRaw {
		t.Errorf("%v", a)
	}
	for text, says := range map[string]string{
		"yes": "must be", "{within: 1s}": "topic is missing", "{topic: a, within: 1h}": "10ms to 1m", "{topic: a, tries: 11}": "1 to 10", "{topic: a, often: 1}": "often: unknown key",
		"{topic: a, match: sources}": "match", "{topic: a, payload: hexa}": "payload", `{topic: a, none: "a/#"}`: "none", `{topic: "{idd}"}`: "idd",
	} {
		if _, err := load("x.yaml", []byte(rule+text+"}]"), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
