package configs

import (
	"fmt"
	"testing"
	"time"
)

// conversions tests a parser: text in; value, or the error, out.
func conversions[T any](t *testing.T, parse func(string) (T, error), table map[string]string) {
	t.Helper()
	for written, want := range table {
		value, err := parse(written)
		got := fmt.Sprint(value)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", written, got, want)
		}
	}
}

func TestSizesHaveAUnit(t *testing.T) {
	conversions(t, ParseSize, map[string]string{
		"0":                    "0",
		"512B":                 "512B",
		"1KB":                  "1KB",
		"1KiB":                 "1KiB",
		"10MB":                 "10MB",
		"64 MiB":               "64MiB",
		"1024MiB":              "1GiB",
		"2GB":                  "2GB",
		"1024GiB":              "1TiB",
		"3TB":                  "3TB",
		"8388607TiB":           "8388607TiB",
		"8589934591GiB":        "8589934591GiB",
		"8589934592GiB":        `"8589934592GiB" is not a size, such as 64MiB`,
		"64":                   "64 needs a unit, such as 64MiB",
		"64mib":                `"64mib" is not a size, such as 64MiB`,
		"64M":                  `"64M" is not a size, such as 64MiB`,
		"-1MiB":                `"-1MiB" is not a size, such as 64MiB`,
		"1.5MiB":               `"1.5MiB" is not a size, such as 64MiB`,
		"":                     `"" is not a size, such as 64MiB`,
		"99999999999999999999": `"99999999999999999999" is not a size, such as 64MiB`,
	})
}

func TestDurationsHaveAUnit(t *testing.T) {
	conversions(t, parseDuration, map[string]string{
		"30s":   (30 * time.Second).String(),
		"1h30m": (90 * time.Minute).String(),
		"30":    "30 needs a unit, such as 30s",
		"1.5":   "1.5 needs a unit, such as 30s",
		"0":     "0 needs a unit, such as 30s",
		"-0":    "-0 needs a unit, such as 30s",
		"1d":    `"1d" is not a duration, such as 30s or 1h30m`,
		"":      `"" is not a duration, such as 30s or 1h30m`,
	})
}

func TestIntegersAreNotOctalByChance(t *testing.T) {
	conversions(t, parseInteger, map[string]string{
		"0":                   "0",
		"-1":                  "-1",
		"+7":                  "7",
		"0x10":                "16",
		"010":                 "010 may be octal or decimal",
		"-010":                "-010 may be octal or decimal",
		"1.0":                 `"1.0" is not a whole number`,
		"9223372036854775808": `"9223372036854775808" is not a whole number`,
		"":                    `"" is not a whole number`,
	})
}

func TestSources(t *testing.T) {
	conversions(t, parseSource, map[string]string{
		"":                "invalid Prefix",
		"172.17.0.1":      "172.17.0.1/32",
		"172.17.0.0/16":   "172.17.0.0/16",
		"fd00::1":         "fd00::1/128",
		"fd00::/64":       "fd00::/64",
		"fe80::1%eth0":    `"fe80::1%eth0": a source has no zone`,
		"fe80::%eth0/64":  `"fe80::%eth0/64": a source has no zone`,
		"172.17.0":        `"172.17.0" is neither an address nor a prefix`,
		"172.17.0.0/33":   `"172.17.0.0/33" is neither an address nor a prefix`,
		"172.17.0.1:5000": `"172.17.0.1:5000" is neither an address nor a prefix`,
		"iso0":            `"iso0" is neither an address nor a prefix`,
	})
}

func TestURLs(t *testing.T) {
	conversions(t, parseURL, map[string]string{
		"mqtt://a":                "mqtt://a:1883",
		"mqtt://a/":               "mqtt://a:1883",
		"mqtt://a:1":              "mqtt://a:1",
		"mqtts://a.example":       "mqtts://a.example:8883",
		"ws://a":                  "ws://a:80",
		"wss://a/mqtt?x=y":        "wss://a:443/mqtt?x=y",
		"mqtt://[fd00::1]":        "mqtt://[fd00::1]:1883",
		"mqtt://[fd00::1]:1884":   "mqtt://[fd00::1]:1884",
		"":                        "a url is empty",
		"a":                       `"a" has no scheme`,
		"a:1883":                  `"a:1883" has no scheme`,
		"tcp://a":                 `"tcp://a": the scheme "tcp" is none of mqtt, mqtts, ws, wss, unix, mqtt+srv, mqtts+srv`,
		"MQTT://a":                `"MQTT://a": the scheme "MQTT" is none of mqtt, mqtts, ws, wss, unix, mqtt+srv, mqtts+srv`,
		"mqtt://":                 `"mqtt://": the host is missing`,
		"mqtt://:1883":            `"mqtt://:1883": the host is missing`,
		"mqtt://a:0":              `"mqtt://a:0": port 0 is out of range: 1 to 65535`,
		"mqtt://a:65536":          `"mqtt://a:65536": port 65536 is out of range: 1 to 65535`,
		"mqtt://a:b":              `"mqtt://a:b": invalid port ":b" after host`,
		"mqtt://a b":              `"mqtt://a b": invalid character " " in host name`,
		"mqtt://fd00::1":          `"mqtt://fd00::1": an IPv6 address must be in brackets`,
		"mqtt://a/b":              `"mqtt://a/b": only ws and wss have a path`,
		"mqtt://a?b":              `"mqtt://a?…": only ws and wss have a path`,
		"ws://a/#b":               `"ws://a/#b": a # part has no meaning here`,
		"ws://a#":                 `"ws://a#": a # part has no meaning here`,
		"mqtt://user@a":           "a url may not hold an @, since it is shown in the log and must hold no password",
		"ws://user:pa/ss@a":       "a url may not hold an @, since it is shown in the log and must hold no password",
		"ws://a/p?token=geheim#":  `"ws://a/p?token=…": a # part has no meaning here`,
		"ws://a:0/?token=geheim":  `"ws://a:0/?token=…": port 0 is out of range: 1 to 65535`,
		"http://a/?token=geheim":  `"http://a/?token=…": the scheme "http" is none of mqtt, mqtts, ws, wss, unix, mqtt+srv, mqtts+srv`,
		"ws://a/path/with%40sign": "ws://a:80/path/with%40sign",
	})
}

func TestListenIsHostAndPort(t *testing.T) {
	for written, ok := range map[string]bool{
		"": true, ":9479": true, "127.0.0.1:9479": true, "[::1]:0": true, "localhost:65535": true,
		"9479": false, "localhost": false, "::1:9479": false, "a:b": false, "a:65536": false, "a:": false,
	} {
		if err := checkListen(written); (err == nil) != ok {
			t.Errorf("%q: %v", written, err)
		}
	}
}

func TestNearestKeyIsOneThatWasMeant(t *testing.T) {
	names := []string{"name", "filter", "qos", "group", "source", "interface", "source_port", "ttl", "dscp"}
	for written, want := range map[string]string{
		"fliter": "filter", "Group": "group", "GROUP": "group", "source-port": "source_port", "sourceport": "source_port",
		"iface": "", "interfaces": "interface", "tttl": "ttl", "topic": "", "on_down": "", "x": "", "qs": "qos",
		"a_very_long_key_that_somebody_made_up_and_that_goes_on_and_on_and_on": "",
	} {
		if got := nearest(written, names); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
}
