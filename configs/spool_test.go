package configs

import (
	"path/filepath"
	"testing"
	"time"

	"topicast/mapping"
)

// The folder is the one named, else the first that systemd gives, else none.
func TestFolderOfTheSpool(t *testing.T) {
	named := "spool: {dir: /srv/spool}\n" + oneRule
	beside := "spool: {dir: held}\n" + oneRule
	for _, tt := range []struct{ yaml, state, want string }{
		{oneRule, "", ""},
		{oneRule, "/var/lib/topicast", "/var/lib/topicast"},
		{oneRule, "/var/lib/topicast:/var/lib/other", "/var/lib/topicast"},
		{"spool: {dir: \"\"}\n" + oneRule, "/var/lib/topicast", "/var/lib/topicast"},
		{named, "/var/lib/topicast", "/srv/spool"},
		{beside, "/var/lib/topicast", filepath.Join("/etc/topicast", "held")},
	} {
		t.Setenv("STATE_DIRECTORY", tt.state)
		c, err := load("/etc/topicast/x.yaml", []byte(tt.yaml), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Spool.Dir != tt.want {
			t.Errorf("%q with STATE_DIRECTORY=%s: %q, want %q", tt.yaml, tt.state, c.Spool.Dir, tt.want)
		}
	}
}

func TestDefaultsOfTheSpool(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	want := Spool{MaxSize: 256 << 20, MaxAge: time.Hour}
	if c := mustLoad(t, oneRule, nil); c.Spool != want {
		t.Errorf("%+v, want %+v", c.Spool, want)
	}
}

// A rule has its own max_age, 0s too, else the spool's, wherever that is set.
func TestMaxAgeOfARule(t *testing.T) {
	const rules = `send:
  - {filter: a, group: "239.1.2.3:5000", interface: eth0, max_age: 5s}
  - {filter: b, group: "239.1.2.3:5000", interface: eth0}
  - {filter: c, group: "239.1.2.3:5000", interface: eth0, max_age: 0s}
  - {filter: d, group: "239.1.2.3:5000", interface: eth0}
`
	for _, tt := range []struct {
		yaml, env string
		want      time.Duration
	}{
		{rules, "", time.Hour},
		{"spool: {max_age: 3m}\n" + rules, "", 3 * time.Minute},
		{rules + "spool: {max_age: 3m}\n", "", 3 * time.Minute}, // below the rules
		{"spool: {max_age: 3m}\n" + rules, "2m", 2 * time.Minute},
		{"spool: {max_age: 0s}\n" + rules, "", 0},
	} {
		t.Setenv("TOPICAST_SPOOL_MAX_AGE", tt.env)
		all := mustLoad(t, tt.yaml, nil).Table.Send()
		for i, want := range []time.Duration{5 * time.Second, tt.want, 0, tt.want} {
			if got := all[i].MaxAge; got != want {
				t.Errorf("%q, rule %d: %v, want %v", tt.yaml, i, got, want)
			}
		}
	}
}

func TestOnDownOfARule(t *testing.T) {
	all := mustLoad(t, `send:
  - {filter: a, group: "239.1.2.3:5000", interface: eth0, qos: 0, on_down: latest}
  - {filter: b, group: "239.1.2.3:5000", interface: eth0}
  - {filter: c, group: "239.1.2.3:5000", interface: eth0, qos: 0}
  - {filter: d, group: "239.1.2.3:5000", interface: eth0, on_down: drop}
`, nil).Table.Send()
	for i, want := range []mapping.OnDown{mapping.OnDownLatest, mapping.OnDownSpool, mapping.OnDownDrop, mapping.OnDownDrop} {
		if got := all[i].OnDown; got != want {
			t.Errorf("rule %d: %v, want %v", i, got, want)
		}
	}
}

// The state folder is systemd's, else the spool's: a spool elsewhere, on a disk of
// its own say, does not take the rest along.
func TestStateFolder(t *testing.T) {
	named := "spool: {dir: /srv/spool}\n" + oneRule
	for _, tt := range []struct{ yaml, state, want string }{
		{oneRule, "", ""},
		{named, "", "/srv/spool"},
		{oneRule, "/var/lib/topicast:/var/lib/other", "/var/lib/topicast"},
		{named, "/var/lib/topicast", "/var/lib/topicast"},
	} {
		t.Setenv("STATE_DIRECTORY", tt.state)
		if got := mustLoad(t, tt.yaml, nil).StateDir(); got != tt.want {
			t.Errorf("%q with STATE_DIRECTORY=%s: %q, want %q", tt.yaml, tt.state, got, tt.want)
		}
	}
}
