package configs

import (
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func TestRepeatIsANumberOrATable(t *testing.T) {
	const rule = `send: [{filter: a, group: "239.1.2.3:5000", interface: eth0, `
	for text, want := range map[string]mapping.Repeat{
		"qos: 1": {}, "repeat: 1": {}, "repeat: 3": {Copies: 2, Every: 20 * time.Millisecond},
		"repeat: {times: 2, every: 1s}": {Copies: 1, Every: time.Second}, "repeat: {times: 4}": {Copies: 3, Every: 20 * time.Millisecond},
	} {
		if got := mustLoad(t, rule+text+"}]", nil).Table.Send()[0]; got.Repeat != want || got.AgeGiven {
			t.Errorf("%s: %v, want %v", text, got.Repeat, want)
		}
	}
	for text, says := range map[string]string{
		"repeat: 0": "1 to 10", "repeat: 11": "1 to 10", "repeat: {times: 2, every: 1m}": "1ms to 10s", "repeat: {every: 1s}": "repeat.times: missing",
		"repeat: {times: 2, often: 1}": "unknown key", "repeat: [1]": "must be", "repeat: {times: 2, every: 20}": "every", "refresh: 5ms": "less than 20ms",
		"counter: u8": "u8@111", "rate: 50": "must be a text",
	} {
		if _, err := load("x.yaml", []byte(rule+text+"}]"), nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
	if !mustLoad(t, rule+"max_age: 1h}]", nil).Table.Send()[0].AgeGiven {
		t.Error("a rule's own max_age is not known as such")
	}
}
