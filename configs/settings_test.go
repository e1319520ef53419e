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

// What is in force of a rule are all its keys, those that are as they come too, with what they mean.
func TestWhatIsInForceOfARuleIsTold(t *testing.T) {
	c, err := load("x.yaml", []byte(`
send:
  - {filter: a, group: "239.1.1.1:5000", interface: lo, ttl: 8}
receive:
  - {group: ["239.1.1.1:5000", "239.1.1.2:5000", "239.1.1.3:5000", "239.1.1.4:5000"], interface: lo, topic: t}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	of := func(rule any, key string) Said {
		for _, s := range Effective(rule) {
			if s.Key == key {
				return s
			}
		}
		return Said{}
	}
	send, receive := &c.Table.Send()[0], &c.Table.Receive()[0]
	for _, tt := range []struct {
		rule any
		want Said
	}{
		{send, Said{Key: "filter", Value: "a"}},
		{send, Said{Key: "ttl", Value: "8"}},
		{send, Said{Key: "qos", Value: "1", Default: true}},
		{receive, Said{Key: "group", Value: "239.1.1.1:5000, 239.1.1.2:5000, 239.1.1.3:5000, 1 more"}},
	} {
		got := of(tt.rule, tt.want.Key)
		if got.Means = ""; got != tt.want {
			t.Errorf("%+v, want %+v", got, tt.want)
		}
	}
	if got := of(send, "retained"); got.Value == "" || got.Means == "" {
		t.Errorf("%+v does not say what it means", got)
	}
	if got, want := of(send, "rate"), (Said{Key: "rate", Means: "no limit", Default: true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := of(send, "host"); got != (Said{}) {
		t.Errorf("%+v says nothing", got)
	}
}
