package configs

import (
	"slices"
	"strings"
	"testing"
)

// tables visits every section, and the entries of every list.
func tables(visit func(name string, s *section)) {
	var walk func(name string, s *section)
	walk = func(name string, s *section) {
		visit(name, s)
		for i := range s.fields {
			if f := &s.fields[i]; f.section != nil {
				walk(f.path, f.section)
			}
		}
	}
	walk("the file", schema())
}

// A word that stands for two keys of one table would always be taken for the first,
// and one that is a key itself would never be looked up.
func TestEveryWordOfTheVocabularyLeadsToItsKey(t *testing.T) {
	for _, w := range otherWords {
		known := false
		tables(func(name string, s *section) {
			if s.field(w.key) == nil {
				return
			}
			known = true
			for word := range strings.FieldsSeq(w.words) {
				if word != plainWord(word) {
					t.Errorf("%s: %q is never found; write %q", w.key, word, plainWord(word))
				}
				if s.field(word) != nil {
					continue // there the word is a key: topic in receive
				}
				for _, not := range notKeys {
					if s.field(not.where) != nil && slices.Contains(strings.Fields(not.words), word) {
						t.Errorf("%s: %q stands for %s, and is explained otherwise too", name, word, w.key)
					}
				}
				if meant, _ := suggestKey(word, s); meant != w.key {
					t.Errorf("%s: %q stands for %q, want %q", name, word, meant, w.key)
				}
			}
		})
		if !known {
			t.Errorf("there is no key %s", w.key)
		}
	}
	for _, not := range notKeys {
		found := false
		tables(func(_ string, s *section) { found = found || s.field(not.where) != nil })
		if !found {
			t.Errorf("there is no key %s", not.where)
		}
	}
}

func TestWordsOfOtherProgramsAreUnderstood(t *testing.T) {
	for _, c := range []struct{ where, word, want string }{
		{"send", "ifname", "did you mean interface?"},
		{"send", "iface", "did you mean interface?"},
		{"receive", "NIC", "did you mean interface?"},
		{"receive", "multicast_interface", "did you mean interface?"}, // Vector
		{"receive", "networkInterface", "did you mean interface?"},    // Camel
		{"receive", "intreface", "did you mean interface?"},
		{"send", "dest", "did you mean group?"},
		{"send", "dst", "did you mean group?"},
		{"send", "addr", "did you mean group?"},
		{"receive", "multicast-group", "did you mean group?"},
		{"send", "src_ip", "did you mean source?"},
		{"send", "local-addr", "did you mean source?"},
		{"receive", "multicast_source", "did you mean source?"}, // Telegraf
		{"receive", "allowed_sources", "did you mean source?"},
		{"send", "topic", "did you mean filter?"},
		{"send", "topics", "did you mean filter?"},
		{"send", "sourcePort", "did you mean source_port?"},
		{"send", "tos", "did you mean dscp?"},
		{"send", "hops", "did you mean ttl?"},
		{"send", "retain", "did you mean retained?"},
		{"receive", "retained", "did you mean retain?"},
		{"receive", "interval", "did you mean every?"},
		{"receive", "filter", "did you mean send[].filter?"},
		{"receive", "ttl", "did you mean send[].ttl?"},
		{"send", "port", `the port belongs to group, as in group: "239.1.2.3:5000"`},
		{"receive", "dport", `the port belongs to group, as in group: "239.1.2.3:5000"`},
		{"broker", "port", "the port belongs to url, as in url: mqtt://192.0.2.10:1883"},
		{"web", "port", "the port belongs to listen, as in listen: 127.0.0.1:9479"},
		{"broker", "host", "did you mean url?"},
		{"broker", "user", "did you mean username?"},
		{"broker", "keepalive", "did you mean keep_alive?"},
		{"broker", "clientId", "did you mean client_id?"},
		{"broker", "ca_cert", "did you mean broker.tls.ca_file?"},
		{"broker", "clean_session", "write session: clean, or session: persistent"},
		{"tls", "ca", "did you mean ca_file?"},
		{"tls", "insecure_skip_verify", "the broker's certificate is always verified: name the authority that signed it in ca_file"},
		{"the file", "mqtt", "did you mean broker?"},
		{"the file", "logging", "did you mean log?"},
		{"the file", "log_level", "did you mean log.level?"},
		{"the file", "broker.url", "write url below broker, indented"},
		{"the file", "broker.tls.ca-file", "write ca_file below broker.tls, indented"},
		{"the file", "routes", "the rules from MQTT to the network are a list below send, those from the network to MQTT one below receive"},
		{"broker", "send", "send is a part of the file itself: write it without indentation"},
		{"send", "log", "log is a part of the file itself: write it without indentation"},
		{"queue", "frobnicate", "the keys here are size"},
	} {
		found := false
		tables(func(name string, s *section) {
			if name != c.where && name != "broker."+c.where {
				return
			}
			found = true
			if _, hint := suggestKey(c.word, s); hint != c.want {
				t.Errorf("%s in %s: %q, want %q", c.word, c.where, hint, c.want)
			}
		})
		if !found {
			t.Errorf("there is no %s", c.where)
		}
	}
}

// The port is put behind the group where that gives one.
func TestAPortOfItsOwnIsPutBehindTheGroup(t *testing.T) {
	for group, want := range map[string]string{
		"239.1.2.3":      `write group: "239.1.2.3:5000"`,
		"ff15::1":        `write group: "[ff15::1]:5000"`,
		"239.1.2.3:4000": `write group: "239.1.2.3:5000"`,
		"239.1.2.0/24":   portOfGroup,
	} {
		_, err := load("x.yaml", []byte("receive: [{group: \""+group+"\", port: 5000, interface: lo, topic: a}]\n"), nil)
		if got := report(err); !strings.Contains(got, "port: a rule has a group or a port, and this one has both\n    hint: ") || !strings.Contains(got, want+"; without group, port is for what comes to this host itself\n") || strings.Contains(got, "].group") {
			t.Errorf("%s: %s\nwant %s", group, got, want)
		}
	}
}
