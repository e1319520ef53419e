package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestNoFlagShowsAPassword(t *testing.T) {
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	AddFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		if strings.HasSuffix(f.Name, "password") {
			t.Errorf("--%s", f.Name)
		}
	})
	if flags.Lookup("broker-password-file") == nil || flags.Lookup("broker-tls-ca-file") == nil {
		t.Error("flags are missing")
	}
}

// However it is written: what follows the key is shown by no error, nor by a hint.
func TestNoFaultShowsThePasswordThatItIsAbout(t *testing.T) {
	for _, written := range []string{"*hunter2", "&hunter2", "!hunter2 x", "@hunter2", "`hunter2", "%hunter2", "[hunter2", "{hunter2", "{hunter2: x}", "[hunter2, y]",
		`"hunter2`, "'hunter2", `"\qhunter2"`, "hunter2: x", "hunter2:", "|hunter2", ">hunter2", "hunter2\n bad", "hunter2\n    more: x", "${HUNTER2}", "{{ hunter2 }}",
		"- hunter2", "? hunter2", `"hunter2" hunter2`, "\thunter2", "!!int hunter2", "!!binary hunter2", "&a [*a, hunter2]", "&hunter2 [*hunter2]", "<<: *hunter2", "hunter2\n  password: hunter2"} {
		_, err := load("x.yaml", []byte("broker:\n  username: gw\n  password: "+written+"\n"+oneRule), nil)
		if err == nil {
			continue // it is a text after all
		}
		var faults Errors
		if !errors.As(err, &faults) {
			t.Fatal(err)
		}
		for _, e := range faults {
			if text := e.Error() + " " + e.Hint; strings.Contains(strings.ToLower(text), "hunter2") {
				t.Errorf("%s: %s", written, text)
			}
		}
	}
}

func TestPasswordIsShownNowhere(t *testing.T) {
	t.Setenv("TOPICAST_BROKER_PASSWORD", "hunter2")
	c, err := load("x.yaml", []byte("broker: {username: gw, url: mqtt://a}\n"+oneRule), nil)
	if err != nil {
		t.Fatal(err)
	}
	if password, err := c.Broker.Password(); password != "hunter2" || err != nil {
		t.Errorf("%q, %v", password, err)
	}
	text, _ := c.Broker.Secret.MarshalText()
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", c, *c, *c, c.Broker.Secret), string(text)} {
		if strings.Contains(shown, "hunter2") {
			t.Error(shown)
		}
	}
	for _, url := range []string{"mqtt://gw:hunter2@a", "gw:hunter2@a", "mqtt://gw:hunter2%zz@a:b", "://x:hunter2@", "mqtt://hunter2@a/b", "mqtt://gw:hunter2/2@a", "ws://gw:hunter2?2@a", "tcp://gw:hunter2@a"} {
		if _, err := parseURL(url); err == nil || strings.Contains(err.Error()+detailsOf(err).hint, "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// The stronger layer wins between the two keys, too.
func TestPasswordFromTheEnvironmentGoesBeforeAFileOfTheConfiguration(t *testing.T) {
	const config = "broker: {username: gw, password_file: /etc/password}\n"
	t.Setenv("TOPICAST_BROKER_PASSWORD", "hunter2")
	c, err := load("x.yaml", []byte(config+oneRule), nil)
	if err != nil || c.Broker.PasswordFile != "" || c.Broker.Secret != "hunter2" {
		t.Errorf("%v %v", c, err)
	}
	t.Setenv("TOPICAST_BROKER_PASSWORD", "")
	t.Setenv("TOPICAST_BROKER_PASSWORD_FILE", "/run/password")
	c, err = load("x.yaml", []byte("broker: {username: gw, password: a}\n"+oneRule), nil)
	if err != nil || c.Broker.PasswordFile != "/run/password" || c.Broker.Secret != "" {
		t.Errorf("%v %v", c, err)
	}
}
