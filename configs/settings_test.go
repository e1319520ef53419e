package configs

import (
	"slices"
	"testing"
)

// What the status has of a rule are its keys, but for those that stand there by themselves
// and those that are as they come.
func TestSettingsAreTheKeysThatAreNotAsTheyCome(t *testing.T) {
	c, err := load("x.yaml", []byte(`
send:
  - {filter: a, group: "239.1.1.1:5000", interface: lo}
  - {name: b, filter: b, group: "239.1.1.1:5000", interface: lo, ttl: 8, oversize: drop, retained: never, payload: "json:/a|hex", max_age: 0s, dscp: EF}
receive:
  - {group: ["239.1.1.1:5000", "239.1.1.2:5000"], source: 192.0.2.1, interface: lo, topic: t, every: 90s, retain: true}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	send, receive := c.Table.Send(), c.Table.Receive()
	for _, tt := range []struct {
		rule any
		want []string
	}{
		{&send[0], []string{"on_down spool", "max_age 1h"}}, // whose defaults depend on others
		{&send[1], []string{"ttl 8", "dscp 46", "oversize drop", "retained never", "on_down spool", "max_age 0s", "payload json:/a|hex"}},
		{&receive[0], []string{"retain true", "empty drop", "every 1m30s"}},
	} {
		got := Settings(tt.rule)
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
