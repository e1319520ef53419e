package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestHowTheBrokerIsReachedIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"proxy: {url: 'http://proxy.example.com:3128'}":                                     "",
		"proxy: {url: 'socks5://192.0.2.1:1080', username: a}":                              "",
		"proxy: {url: 'socks5://[2001:db8::1]:1080', username: 'a:b', password_file: x}":    "",
		"proxy: {url: 'https://proxy:3128'}":                                                "broker.proxy.url: ",
		"proxy: {url: 'socks5h://proxy:3128'}":                                              "write socks5://",
		"proxy: {url: 'http://me:secret@proxy:3128'}":                                       "use broker.proxy.username",
		"proxy: {url: 'proxy:3128'}":                                                        "is not the address of a proxy",
		"proxy: {url: 'http://proxy'}":                                                      "has no port",
		"proxy: {url: 'http://proxy:70000'}":                                                "out of range",
		"proxy: {url: 'http://proxy:0'}":                                                    "out of range",
		"proxy: {url: 'http://:3128'}":                                                      "is not the address of a proxy",
		"proxy: {url: 'http://proxy:3128/path'}":                                            "is not the address of a proxy",
		"proxy: {username: a}":                                                              "give broker.proxy.url too",
		"proxy: {password_file: a}":                                                         "give broker.proxy.url too",
		"proxy: {url: 'http://proxy:3128', password_file: a}":                               "give broker.proxy.username too",
		"proxy: {url: 'http://proxy:3128', username: 'a:b'}":                                "no colon",
		"proxy: {url: 'socks5://proxy:3128', username: '" + strings.Repeat("x", 256) + "'}": "at most 255 bytes",
		"bind: 192.0.2.7":                                                                   "",
		"bind: '2001:db8::7'":                                                               "",
		"bind: eth0.5":                                                                      "",
		"bind: 0.0.0.0":                                                                     "not an address that a connection can leave from",
		"bind: 239.1.1.1":                                                                   "not an address that a connection can leave from",
		"bind: 'fe80::1%eth0'":                                                              "not an address that a connection can leave from",
		"bind: 192.0.2.0/24":                                                                "neither an address nor the name",
		"bind: 192.0.2":                                                                     "neither an address nor the name",
		"url: mqtts://a, tls: {alpn: mqtt}":                                                 "",
		"url: mqtts://a, tls: {alpn: [x-amzn-mqtt-ca, mqtt]}":                               "",
		"url: mqtts://a, tls: {alpn: ''}":                                                   "",
		"url: mqtts://a, tls: {alpn: [a b]}":                                                "is not the name of a protocol",
		"url: mqtts://a, tls: {alpn: [" + strings.Repeat("x", 256) + "]}":                   "is not the name of a protocol",
		"url: mqtt://a, tls: {alpn: mqtt}":                                                  "no url of the broker uses TLS",
		"username: a, password_command: x":                                                  "",
		"username: a, password: x, password_command: x":                                     "password and password_command are both given",
		"username: a, password_file: x, password_command: x":                                "password_command and password_file are both given",
		"username: a, password_file: x, password: x":                                        "password and password_file are both given",
		"password_command: x":                                                               "broker.password_command: a password without a username",
		"username: a, password_command: x, password_lifetime: 50m":                          "",
	} {
		_, err := load("x.yaml", []byte("broker: {"+text+"}\n"+oneRule), nil)
		var all Errors
		if errors.As(err, &all) {
			for _, e := range all {
				err = fmt.Errorf("%w (%s)", err, e.Hint)
			}
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// What the environment gives goes before what the file gives, whichever of the three it is.
func TestTheStrongerLayerSaysWhereThePasswordComesFrom(t *testing.T) {
	for variable, want := range map[string][3]string{
		"TOPICAST_BROKER_PASSWORD":         {"v", "", ""},
		"TOPICAST_BROKER_PASSWORD_FILE":    {"", "v", ""},
		"TOPICAST_BROKER_PASSWORD_COMMAND": {"", "", "v"},
	} {
		for _, inFile := range []string{"password", "password_file", "password_command"} {
			t.Run(variable+" "+inFile, func(t *testing.T) {
				t.Setenv(variable, "v")
				c, err := load("x.yaml", []byte("broker: {username: a, "+inFile+": f}\n"+oneRule), nil)
				if err != nil {
					t.Fatal(err)
				}
				got := [3]string{string(c.Broker.Secret), strings.TrimPrefix(c.Broker.PasswordFile, "./"), c.Broker.Command}
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}
