package configs

import (
	"strings"
	"testing"
)

// testdata/bad has what is refused in a file; this is what is not.
func TestADollarThatIsMeantIsTakenAsItIs(t *testing.T) {
	for name, text := range map[string]string{
		"password":     "broker: {username: joe, password: 'a${b}$C$(d){{e}}f'}\n" + oneRule,
		"filter":       `send: [{filter: "$SYS/{x}/$STATE", group: "239.1.2.3:5000", interface: eth0}]`,
		"topic":        `receive: [{group: "239.1.2.3:5000", interface: eth0, topic: "homie/$NAME/${source}/{group&255}"}]`,
		"status topic": "broker: {status_topic: '$SYS/{client_id}'}\n" + oneRule,
		"pointer":      `send: [{filter: a, group: "239.1.2.3:5000", interface: eth0, payload: "json:/${X}/$REF"}]`,
		"path":         "broker: {username: joe, password_file: /srv/$web/a}\n" + oneRule,
		"url":          "broker: {url: 'wss://a/$web/{x}'}\n" + oneRule,
		"comment":      oneRule + "# url: ${BROKER} {{ x }}\n",
	} {
		c, err := load("x.yaml", []byte(text), nil)
		if err != nil || len(c.Warnings) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANameThatLooksLikeAVariableIsWarnedOf(t *testing.T) {
	c, err := load("x.yaml", []byte("broker: {client_id: gw-$HOSTNAME}\n"+oneRule), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "x.yaml:1:21: broker.client_id: holds $HOSTNAME, which nothing replaces; it is taken as it is\n" +
		"    hint: set the variable TOPICAST_BROKER_CLIENT_ID to the whole value: it goes before this file\n"
	if got := report(c.Warnings); got != want {
		t.Errorf("%s", got)
	}
}

// systemd and docker run --env-file put no variables into a file of variables.
func TestAPlaceholderInAVariableIsRefused(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"TOPICAST_BROKER_URL", "mqtt://${BROKER}", "TOPICAST_BROKER_URL: broker.url: holds ${BROKER}, which nothing replaces\n    hint: write the value itself: "},
		{"TOPICAST_BROKER_URL", "mqtt://a,mqtt://$BROKER", "TOPICAST_BROKER_URL: broker.url: holds $BROKER, which"},
		{"TOPICAST_QUEUE_SIZE", "$(SIZE)", "TOPICAST_QUEUE_SIZE: queue.size: holds $(SIZE), which"},
		{"TOPICAST_BROKER_USERNAME", "{{ user }}", "TOPICAST_BROKER_USERNAME: broker.username: holds {{…}}, which"},
		{"TOPICAST_BROKER_PASSWORD", "${PASSWORD:-hunter2}", "TOPICAST_BROKER_PASSWORD: broker.password: holds a placeholder, which"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TOPICAST_BROKER_USERNAME", "joe")
			t.Setenv("TOPICAST_BROKER_PASSWORD", "hunter2")
			t.Setenv(c.name, c.value)
			_, err := load("x.yaml", []byte(oneRule), nil)
			if got := report(err); !strings.HasPrefix(got, c.want) || strings.Count(got, "\n") != 2 {
				t.Errorf("%s=%s: %s", c.name, c.value, got)
			}
		})
	}
}

// What stands in a placeholder beside the name may be a password.
func TestNoFaultShowsWhatAPlaceholderFallsBackOn(t *testing.T) {
	for _, url := range []string{"mqtt://joe:${PASS:-hunter2}/", "mqtt://${PASS-hunter2}", "mqtt://{{ 'hunter2' }}", "mqtt://${PASS=hunter2}"} {
		_, err := load("x.yaml", []byte("broker: {url: \""+url+"\"}\n"+oneRule), nil)
		if got := report(err); !strings.Contains(got, "which nothing replaces") || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", url, got)
		}
	}
}
