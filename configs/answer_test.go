package configs

import (
	"errors"
	"slices"
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
		"yes": "must be", "{within: 1s}": "answer.topic: missing", "{topic: a, within: 1h}": "10ms to 1m", "{topic: a, tries: 11}": "1 to 10", "{topic: a, often: 1}": "answer.often: unknown key",
		"{topic: a, match: sources}": "match", "{topic: a, payload: hexa}": "payload", `{topic: a, none: "a/#"}`: "none", `{topic: "{idd}"}`: "idd",
	} {
		if _, err := load("x.yaml", []byte(rule+text+"}]"), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// Whoever writes a table within a rule is told of all that is wrong with it, each at its place.
func TestAllFaultsOfATableWithinARuleAreTold(t *testing.T) {
	const rule = `send: [{filter: "q/{id}", host: "192.0.2.{id}:1010", interface: eth0,
  answer: {topic: "a/#", within: 1h, trys: 2,
    match: sources, within: 2s},
  repeat: {every: 1m, tims: 2}}, {filter: b, host: "192.0.2.1:1010", interface: eth0,
  answer: {topics: a, tries: 11}}]`
	_, err := load("x.yaml", []byte(rule), nil)
	var all Errors
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		text, _, _ := strings.Cut(e.Error(), " ")
		got = append(got, text)
	}
	if want := []string{"x.yaml:2:19:", "x.yaml:2:34:", "x.yaml:2:38:", "x.yaml:3:12:", "x.yaml:3:21:", "x.yaml:4:19:", "x.yaml:4:23:", "x.yaml:5:12:", "x.yaml:5:30:"}; !slices.Equal(got, want) {
		t.Errorf("%v\n%v", got, err)
	}
	for i, want := range []string{"send[0].answer.topic: ", "send[0].answer.within: ", "send[0].answer.trys: ", "send[0].answer.match: ", "send[0].answer.within: given twice", "send[0].repeat.every: ",
		"send[0].repeat.tims: unknown key", "send[1].answer.topics: ", "send[1].answer.tries: "} {
		if i < len(all) && !strings.Contains(all[i].Error(), want) {
			t.Errorf("%v, want %s", all[i], want)
		}
	}
}
