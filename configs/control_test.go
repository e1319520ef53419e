package configs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhereTheControlSocketIs(t *testing.T) {
	for _, c := range []struct{ listen, runtime, user, want string }{
		{"auto", "/run/topicast:/run/other", "/run/user/1000", "/run/topicast/control.sock"},
		{"auto", "", "/run/user/1000", "/run/user/1000/topicast/control.sock"},
		{"auto", "", "relative", ""},
		{"auto", "", "", ""},
		{"unix:/srv/c", "/run/topicast", "/run/user/1000", "/srv/c"},
		{"", "/run/topicast", "/run/user/1000", ""},
	} {
		t.Setenv("RUNTIME_DIRECTORY", c.runtime)
		t.Setenv("XDG_RUNTIME_DIR", c.user)
		if got := (Control{Listen: c.listen}).Path(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestWhereTheControlSocketIsLookedFor(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("RUNTIME_DIRECTORY", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1000")
	write := func(name, text string) string {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	named := write("named.yaml", "control: {listen: 'unix:/srv/c'}\n"+oneRule)
	off := write("off.yaml", "control: {listen: ''}\n"+oneRule)
	bad := write("bad.yaml", "nonsense")
	usual := []string{"/run/user/1000/topicast/control.sock", "/run/topicast/control.sock"}
	look := func(what, file string, want ...string) {
		t.Helper()
		if got, _, err := ControlPlaces(file); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	look("no file", "", usual...)
	look("a file that is named", named, "/srv/c")
	if _, _, err := ControlPlaces(off); !errors.Is(err, ErrNoControl) {
		t.Errorf("one that has it off: %v", err)
	}
	if _, _, err := ControlPlaces(bad); err == nil {
		t.Error("one with a fault that is named is passed over")
	}
	write("topicast.yaml", "nonsense")
	look("one with a fault that is not named", "", usual...)
	if _, fault, _ := ControlPlaces(""); fault == nil || !strings.Contains(fault.Error(), "topicast.yaml") {
		t.Errorf("of its fault is said: %v", fault)
	}
	// The bridge goes on with what it has while the file has a fault.
	for what, text := range map[string]string{
		"a key that there is not":       "control: {listen: 'unix:/srv/typo'}\nnosuch: 1\n" + oneRule,
		"no YAML above":                 "broker: {url: \nweb: }\ncontrol:\n  # here\n\n  listen: unix:/srv/typo\nlog: {}\n" + oneRule,
		"no YAML below":                 "control:\n  listen: unix:/srv/typo\nbroker: {url: \n" + oneRule,
		"no YAML, and it is at the end": "broker: {url: \n" + oneRule + "control:\n  listen: unix:/srv/typo\n",
	} {
		write("topicast.yaml", text)
		look(what, "", "/srv/typo")
		look(what+", of a file that is named", "topicast.yaml", "/srv/typo")
		if _, fault, _ := ControlPlaces(""); fault != nil {
			t.Errorf("%s: %v", what, fault)
		}
	}
	write("topicast.yaml", "nosuch: 1\n"+oneRule)
	look("one with a fault and without the key", "", usual...)
	if _, fault, _ := ControlPlaces(""); fault != nil {
		t.Errorf("where it is known: %v", fault)
	}
	write("topicast.toml", "[control]\nlisten = \"unix:/srv/toml\"\n[broker]\nurl = \n")
	look("TOML", "topicast.toml", "/srv/toml")
	write("topicast.yaml", "control: {listen: tcp}\n"+oneRule)
	if _, fault, _ := ControlPlaces(""); fault == nil {
		t.Error("one that is no place is taken as known")
	}
	write("topicast.yaml", "control: {listen: 'unix:/srv/here'}\n"+oneRule)
	look("one that is not named", "", "/srv/here")
	t.Setenv("TOPICAST_CONTROL_LISTEN", "unix:/srv/variable")
	look("a variable", named, "/srv/variable")
}
