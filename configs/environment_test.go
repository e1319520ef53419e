package configs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// checked is what is said of the environment: faults, then warnings.
func checked(environ ...string) string {
	faults, warnings := checkEnvironment(environ)
	return report(faults) + report(warnings)
}

func TestAVariableThatNoKeyHasIsRefusedWithTheOneThatWasMeant(t *testing.T) {
	for name, meant := range map[string]string{
		"TOPICAST_BROKER_URLS":         "TOPICAST_BROKER_URL",
		"TOPICAST_BROKER_ULR":          "TOPICAST_BROKER_URL",
		"TOPICAST_BROKER_PASSWORD_FIL": "TOPICAST_BROKER_PASSWORD_FILE",
		"TOPICAST_BROKER_PASWORD":      "TOPICAST_BROKER_PASSWORD",
		"TOPICAST_BROKER_USER":         "TOPICAST_BROKER_USERNAME",
		"TOPICAST_BROKER_CLIENTID":     "TOPICAST_BROKER_CLIENT_ID",
		"TOPICAST_BROKER_CA_FILE":      "TOPICAST_BROKER_TLS_CA_FILE",
		"TOPICAST_TLS_KEY_FILE":        "TOPICAST_BROKER_TLS_KEY_FILE",
		"TOPICAST_PASSWORD":            "TOPICAST_BROKER_PASSWORD",
		"TOPICAST_URL":                 "TOPICAST_BROKER_URL",
		"TOPICAST_LOGLEVEL":            "TOPICAST_LOG_LEVEL",
		"TOPICAST_LEVEL":               "TOPICAST_LOG_LEVEL",
		"TOPICAST_SPOOLDIR":            "TOPICAST_SPOOL_DIR",
		"TOPICAST_SPOOL_MAXAGE":        "TOPICAST_SPOOL_MAX_AGE",
		"TOPICAST_WEB_LISTEM":          "TOPICAST_WEB_LISTEN",
		"TOPICAST__BROKER__URL":        "TOPICAST_BROKER_URL",
		"TOPICAST_broker_url":          "TOPICAST_BROKER_URL",
		"topicast_broker_url":          "TOPICAST_BROKER_URL",
		"TOPICAST-BROKER-URL":          "TOPICAST_BROKER_URL",
		"TOPICAST.BROKER.URL":          "TOPICAST_BROKER_URL",
		"TOPICAST_CONFIG_FILE":         "TOPICAST_CONFIG",
		"TOPICAST_CONFG":               "TOPICAST_CONFIG",
	} {
		want := name + ": unknown variable; it belongs to no key of the configuration\n    hint: did you mean " + meant + "? topicast config --env lists all variables\n"
		if got := checked(name + "=hunter2"); got != want {
			t.Errorf("%s: %s", name, got)
		}
		// Where it is empty it counts as not set, as those do that there are.
		if got := checked(name + "="); got != "" {
			t.Errorf("%s, empty: %s", name, got)
		}
	}
}

func TestAVariableWithoutALikelyNameSaysWhatThereIs(t *testing.T) {
	for name, want := range map[string]string{
		"TOPICAST_VERSION": "TOPICAST_VERSION: unknown variable; it belongs to no key of the configuration\n" +
			"    hint: topicast config --env lists all variables; what is not for topicast must not begin with TOPICAST_\n",
		"TOPICAST_LOG": "TOPICAST_LOG: unknown variable; it belongs to no key of the configuration\n    hint: the section log has TOPICAST_LOG_LEVEL, TOPICAST_LOG_FORMAT\n",
		"TOPICAST_QUEUE_BYTES_MOST": "TOPICAST_QUEUE_BYTES_MOST: unknown variable; it belongs to no key of the configuration\n" +
			"    hint: the section queue has TOPICAST_QUEUE_SIZE\n",
		"TOPICAST_": "TOPICAST_: unknown variable; it belongs to no key of the configuration\n" +
			"    hint: topicast config --env lists all variables; what is not for topicast must not begin with TOPICAST_\n",
	} {
		if diff := cmp.Diff(want, checked(name+"=hunter2")); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestARuleIsNotGivenByVariables(t *testing.T) {
	for _, name := range []string{"SEND", "SEND_0_GROUP", "SEND__0__GROUP", "RECEIVE_12_INTERFACE", "RECEIVE_0_TOPC", "SEND_GROUP"} {
		list := strings.ToLower(strings.Split(name, "_")[0])
		want := "TOPICAST_" + name + ": the rules of " + list + " are in the file only; no variable gives one, or a key of one\n" +
			"    hint: write it into the list " + list + " of the file; where hosts differ, make the file for each before the start\n"
		if diff := cmp.Diff(want, checked("TOPICAST_"+name+"=x")); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// Another program may have a name that is like ours, so that is not refused.
func TestAVariableWithAMisspeltPrefixIsWarnedOf(t *testing.T) {
	for name, meant := range map[string]string{
		"TOPCAST_BROKER_URL":    "TOPICAST_BROKER_URL",
		"TOPICASTBROKER_URL":    "TOPICAST_BROKER_URL",
		"TOPIC_CAST_LOG_LEVEL":  "TOPICAST_LOG_LEVEL",
		"TOPICAT_CONFIG":        "TOPICAST_CONFIG",
		"topicast_log_levl":     "TOPICAST_LOG_LEVEL",
		"_TOPICAST_QUEUE_SIZES": "TOPICAST_QUEUE_SIZE",
	} {
		want := name + ": not read, as it does not begin with TOPICAST_\n    hint: did you mean " + meant + "? topicast config --env lists all variables\n"
		if got := checked(name + "=x"); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestVariablesThatAreNotOursAreLeftAlone(t *testing.T) {
	environ := []string{
		// of the project's tests
		"TOPICAST_NO_SKIP=1", "TOPICAST_TEST_BROWSER=chromium", "TOPICAST_VM=1",
		// of anybody
		"PATH=/bin", "BROKER_URL=x", "MQTT_BROKER_URL=x", "CONFIG=x", "topicast_version=1", "_=x", "=C:=C:\\", "TOPICS=3", "STATE_DIRECTORY=/var/lib/topicast",
		// of Kubernetes, for services named topicast and topicast-metrics
		"TOPICAST_SERVICE_HOST=10.0.0.1", "TOPICAST_SERVICE_PORT=9479", "TOPICAST_SERVICE_PORT_HTTP=9479",
		"TOPICAST_PORT=tcp://10.0.0.1:9479", "TOPICAST_PORT_9479_TCP=tcp://10.0.0.1:9479", "TOPICAST_PORT_9479_TCP_PROTO=tcp",
		"TOPICAST_METRICS_SERVICE_HOST=10.0.0.2", "TOPICAST_METRICS_SERVICE_PORT=80", "TOPICAST_METRICS_PORT_80_TCP_ADDR=10.0.0.2",
	}
	for _, v := range Variables() {
		environ = append(environ, v.Name+"=x")
	}
	if got := checked(environ...); got != "" {
		t.Error(got)
	}
	// Without such a service the same names are slips.
	if faults, _ := checkEnvironment([]string{"TOPICAST_PORT=9479", "TOPICAST_BROKER_PORT=1883", "TOPICAST_METRICS_PORT_80=80"}); len(faults) != 3 {
		t.Errorf("%v", faults)
	}
}

func TestLoadLooksAtTheEnvironment(t *testing.T) {
	t.Setenv("TOPICAST_BROKER_URLS", "mqtt://192.0.2.10")
	t.Setenv("TOPICAST_SEND_0_GROUP", "239.1.2.3:5000")
	_, err := load("x.yaml", []byte(oneRule+"queue: {size: 5}\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "x.yaml:2:15: queue.size: ") ||
		!strings.HasSuffix(err.Error(), "\nTOPICAST_BROKER_URLS: unknown variable; it belongs to no key of the configuration\n"+
			"TOPICAST_SEND_0_GROUP: the rules of send are in the file only; no variable gives one, or a key of one") {
		t.Errorf("%v", err)
	}
	t.Setenv("TOPICAST_BROKER_URLS", "")
	t.Setenv("TOPICAST_SEND_0_GROUP", "")
	t.Setenv("TOPCAST_BROKER_URL", "mqtt://192.0.2.10")
	c, err := load("x.yaml", []byte(oneRule), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "TOPCAST_BROKER_URL: not read, as it does not begin with TOPICAST_"
	if got := c.Warnings.Error(); got != want {
		t.Errorf("warnings: %s", got)
	}
	// Whatever else the interfaces are called, it stays said.
	if c.On(mapping.HostInterfaces{Names: map[string]string{"enp3s0": "eth0", "eth0": "eth1"}}); c.Warnings.Error() != want {
		t.Errorf("with names: %s", c.Warnings)
	}
}

// Every variable that the tree names is known: one that a test or a tool reads must
// not keep the program from running.
func TestEveryVariableOfTheTreeIsKnown(t *testing.T) {
	known := slices.Clone(equipment)
	for _, v := range Variables() {
		known = append(known, v.Name)
	}
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "script"): // scripts have slips of their own
			return fs.SkipDir
		}
		if base := filepath.Base(path); d.IsDir() || !d.Type().IsRegular() || strings.HasPrefix(base, "environment") || base == "CHANGELOG.md" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range regexp.MustCompile(`\bTOPICAST_[A-Z0-9_]*[A-Z0-9]`).FindAllString(string(data), -1) {
			found++
			if !slices.Contains(known, name) && !strings.HasPrefix(name, "TOPICAST_TEST_") {
				t.Errorf("%s: %s is not known", path, name)
			}
		}
		return nil
	})
	if err != nil || found < 30 {
		t.Errorf("found %d: %v", found, err)
	}
}

// docker run --env-file hands on quotes that a shell and systemd would take off.
func TestAVariableInQuotesIsTold(t *testing.T) {
	for _, c := range []struct{ name, value, said string }{
		{"TOPICAST_BROKER_URL", `"mqtt://192.0.2.10"`, "TOPICAST_BROKER_URL: broker.url: "},
		{"TOPICAST_QUEUE_SIZE", `'64MiB'`, "TOPICAST_QUEUE_SIZE: queue.size: "},
		{"TOPICAST_BROKER_USERNAME", `"joe"`, "TOPICAST_BROKER_USERNAME: broker.username: the value is in quotes, and they are part of it\n"},
		{"TOPICAST_BROKER_CLIENT_ID", `"`, ""},
		{"TOPICAST_BROKER_CLIENT_ID", `"gw'`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(c.name, c.value)
			config, err := load("x.yaml", []byte(oneRule), nil)
			got := report(err)
			if err == nil {
				got = report(config.Warnings)
			}
			if !strings.HasPrefix(got, c.said) || strings.Contains(got, takeQuotesOff) != (c.said != "") || c.said == "" && got != "" {
				t.Errorf("%s=%s: %s", c.name, c.value, got)
			}
		})
	}
}
