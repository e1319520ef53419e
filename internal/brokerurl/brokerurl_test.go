package brokerurl

import (
	"errors"
	"strings"
	"testing"
)

func TestBrokerAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"mqtt://broker":                       "mqtt://broker:1883",
		"mqtt://broker/":                      "mqtt://broker:1883",
		"mqtt://192.0.2.1:1884":               "mqtt://192.0.2.1:1884",
		"mqtts://[2001:db8::1]":               "mqtts://[2001:db8::1]:8883",
		"ws://broker/":                        "ws://broker:80/",
		"ws://broker/mqtt":                    "ws://broker:80/mqtt",
		"wss://broker:8443/a?b=c":             "wss://broker:8443/a?b=c",
		"mqtt+srv://example.com":              "mqtt+srv://example.com",
		"mqtts+srv://example.com":             "mqtts+srv://example.com",
		"mqtt+srv://example.com:1":            "error",
		"mqtt+srv://example.com/":             "error",
		"mqtt+srv://":                         "error",
		"mqtt+srv://[::1]":                    "error",
		"ws+srv://example.com":                "error",
		"unix:///run/mqtt.sock":               "unix:///run/mqtt.sock",
		"unix:///a b":                         "unix:///a%20b",
		"unix://run/mqtt.sock":                "error",
		"unix:///":                            "error",
		"unix:///run/":                        "error",
		"unix:///a?b":                         "error",
		"unix:///a%20b":                       "error",
		"unix:///a#b":                         "error",
		"unix:///" + strings.Repeat("x", 106): "unix:///" + strings.Repeat("x", 106),
		"unix:///" + strings.Repeat("x", 107): "error",
		"mqtt+unix:///run/mqtt":               "error",
		"broker:1883":                         "error",
		"127.0.0.1:1883":                      "error",
		"tcp://broker":                        "error",
		"http://broker":                       "error",
		"mqtt://":                             "error",
		"mqtt://:1883":                        "error",
		"mqtt://broker/path":                  "error",
		"mqtt://user:secret@broker":           "error",
		"mqtt://broker:port":                  "error",
		"":                                    "error",
		"mqtt://u:secret%zz@broker":           "error",
	} {
		u, err := Parse(text)
		switch {
		case want == "error":
			if err == nil {
				t.Errorf("%q taken for %v", text, u)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: the error tells the password: %v", text, err)
			}
		case err != nil:
			t.Errorf("%q: %v", text, err)
		case u.String() != want:
			t.Errorf("%q: got %s, want %s", text, u, want)
		}
	}
}

func TestAnAddressWithOneSlashIsToldHowItIsWritten(t *testing.T) {
	_, err := Parse("mqtt:/127.0.0.1:1883")
	if e, ok := errors.AsType[*Error](err); !ok || e.Hint != "write mqtt://127.0.0.1:1883" {
		t.Errorf("%v", err)
	}
}

func TestNeitherAddressNorErrorShowsAToken(t *testing.T) {
	for written, want := range map[string]string{
		"ws://a/p":                  "ws://a:80/p",
		"ws://a/p?token=geheim":     "ws://a:80/p?token=…",
		"wss://a?geheim":            "wss://a:443?…",
		"wss://a/?a=geheim&b=&c":    "wss://a:443/?a=…&b=…&…",
		"wss://a/?x=geheim?geheim":  "wss://a:443/?x=…",
		"wss://a/?x=geheim;y=ge&im": "wss://a:443/?x=…&…",
	} {
		u, err := Parse(written)
		if err != nil {
			t.Fatal(err)
		}
		if got := Shown(u); got != want {
			t.Errorf("%s: got %s, want %s", written, got, want)
		}
		if !strings.HasSuffix(u.String(), written[strings.Index(written, "//a")+3:]) {
			t.Errorf("%s: connects to %s", written, u)
		}
	}
	for _, written := range []string{"http://a?token=geheim", "a?token=geheim", "ws://a:0?token=geheim", "ws://a?token=geheim#x", "ws://[a?token=geheim",
		"mqtt://a?token=geheim", "ws://?token=geheim", "ws://a%?token=geheim", "ws://a b?token=geheim", "x://a?token=geheim"} {
		_, err := Parse(written)
		e, ok := errors.AsType[*Error](err)
		if !ok || strings.Contains(e.Error()+e.Hint, "geheim") {
			t.Errorf("%s: %v", written, err)
		}
	}
}
