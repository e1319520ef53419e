package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"topicast/configs/syntax"
)

const oneRule = "send: [{filter: a, group: \"239.1.2.3:5000\", interface: eth0}]\n"

func TestEveryConfigurationOfTheProjectLoads(t *testing.T) {
	loaded := 0
	for file := range everyConfiguration(t) {
		if strings.HasPrefix(file, "testdata") {
			continue
		}
		loaded++
		c, err := Load(file, nil)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, w := range c.Warnings {
			t.Errorf("warning: %v", w)
		}
	}
	if loaded < 5 {
		t.Errorf("only %d files", loaded)
	}
}

// The same in the three formats is the same.
func TestFormatsAgree(t *testing.T) {
	forms := map[string]string{
		"x.yaml": `
broker:
  url: [mqtt://a, wss://b/mqtt]
  username: "1234"
  keep_alive: 90s
  tls: {server_name: c}
queue: {size: 1GB}
log: {level: debug}
loops: {guard: false, hold: 0s, breaker: 0x10}
spool: {dir: /srv/spool, max_size: 1TiB, max_age: 8760h}
receive:
  - {name: "ü", group: [239.1.2.3:5000, "239.1.2.8-239.1.2.9:5001"], interface: eth0, source: [192.0.2.7, 198.51.100.0/24], topic: "a/{source}", retain: true, payload: json, every: 1500ms, on_change: true}
  - {group: "[ff15::1]:5000", interface: "fd00::1", source: "fd00::/64", topic: b, qos: 0}
send:
  - {name: "é\U0001F600/", filter: "a/{x}", group: "239.1.2.{x}:5000", source: 10.0.0.0/8, ttl: 0x10, loopback: false, dscp: 0x2e}
  - {filter: b, group: "[ff15::1]:5000", interface: eth0, dscp: 46, source_port: 7, qos: 2, retained: never, payload: "json:/a|hex", oversize: drop, on_down: latest, max_age: 90s}
`,
		"x.toml": `
broker.url = ["mqtt://a", "wss://b/mqtt"]
broker.username = '1234'
broker.keep_alive = "90s"
broker.tls.server_name = """c"""
[queue]
size = "1GB" # ten to the nine
[log]
level = "debug"
[loops]
guard = false
hold = "0s"
breaker = 16
[spool]
dir = "/srv/spool"
max_size = "1024GiB"
max_age = "8760h"
[[receive]]
name = "ü"
group = [
  "239.1.2.3:5000", # one
  "239.1.2.8-239.1.2.9:5001",
]
interface = "eth0"
source = ["192.0.2.7", "198.51.100.0/24"]
topic = "a/{source}"
retain = true
payload = "json"
every = "1.5s"
on_change = true
[[receive]]
group = "[ff15::1]:5000"
interface = "fd00::1"
source = ["fd00::/64"]
topic = "b"
qos = 0
[[send]]
name = "\u00e9\U0001F600/"
filter = "a/{x}"
group = "239.1.2.{x}:5000"
source = "10.0.0.0/8"
ttl = 0x10
loopback = false
dscp = "EF"
[[send]]
filter = "b"
"group" = "[ff15::1]:5000"
interface = "eth0"
dscp = 46
source_port = 7
qos = 2
retained = "never"
payload = "json:/a|hex"
oversize = "drop"
on_down = "latest"
max_age = "1m30s"
`,
		"x.json": `{
	"broker": {"url": ["mqtt:\/\/a", "wss://b/mqtt"], "username": "1234", "keep_alive": "90s", "tls": {"server_name": "c"}},
	"queue": {"size": "1GB"},
	"log": {"level": "debug"},
	"loops": {"guard": false, "hold": "0s", "breaker": 16},
	"spool": {"dir": "/srv/spool", "max_size": "1048576MiB", "max_age": "8760h"},
	"receive": [
		{"name": "\u00fc", "group": ["239.1.2.3:5000", "239.1.2.8-239.1.2.9:5001"], "interface": "eth0", "source": ["192.0.2.7", "198.51.100.0/24"], "topic": "a/{source}", "retain": true, "payload": "json", "every": "1500ms", "on_change": true},
		{"group": ["[ff15::1]:5000"], "interface": "fd00::1", "source": "fd00::/64", "topic": "b", "qos": 0}
	],
	"send": [
		{"name": "\u00e9\ud83d\ude00\/", "filter": "a/{x}", "group": "239.1.2.{x}:5000", "source": "10.0.0.0/8", "ttl": 16, "loopback": false, "dscp": "EF"},
		{"filter": "b", "group": "[ff15::1]:5000", "interface": "eth0", "dscp": 46, "source_port": 7, "qos": 2, "retained": "never", "payload": "json:/a|hex", "oversize": "drop", "on_down": "latest", "max_age": "90s"}
	]
}`,
	}
	shown := make(map[string]string)
	for file, text := range forms {
		c, err := load(file, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%v %v %v %v %v %v\n", c.Broker, c.Queue, c.Spool, c.Loops, c.Web, c.Log)
		for _, r := range c.Table.Send() {
			fmt.Fprintf(&b, "%s|%s|%d|%s|%v|%v|%s|%v|%v\n", r.Name, r.Filter, r.QoS, r.Group, r.Binding, r.Retained, r.Payload, r.OnDown, r.MaxAge)
		}
		for _, r := range c.Table.Receive() {
			fmt.Fprintf(&b, "%s|%v|%s|%v|%s|%d|%v|%s|%v|%v\n", r.Name, r.Groups, r.Interface, r.Sources, r.Topic, r.QoS, r.Retain, r.Encoding, r.Every, r.OnChange)
		}
		shown[file] = b.String()
	}
	host, _ := os.Hostname()
	want := fmt.Sprintf(`{[mqtt://a:1883 wss://b:443/mqtt] topicast-%[1]s 1234 (secret)  {   c} 1m30s persistent topicast/topicast-%[1]s/status 3  1000} {1GB} {/srv/spool 1TiB 8760h0m0s} {false 65536 10s 0s 16} {127.0.0.1:9479 []} {DEBUG text}
é😀/|a/{x}|1|239.1.2.{x}:5000|{10.0.0.0/8  0 16 false 46 false true}|once|raw|spool|8760h0m0s
b|b|2|[ff15::1]:5000|{invalid Prefix eth0 7 1 true 46 true false}|never|json:/a|hex|latest|1m30s
ü|[239.1.2.3:5000 239.1.2.8-239.1.2.9:5001]|eth0|[192.0.2.7/32 198.51.100.0/24]|a/{source}|1|true|json|1.5s|true
[ff15::1]:5000|[[ff15::1]:5000]|fd00::1|[fd00::/64]|b|0|false|raw|0s|false
`, host)
	for file, got := range shown {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", file, diff)
		}
	}
}

// decodeScalars is load without the checks that need several keys to agree.
func decodeScalars(t *testing.T, yaml string, flags *pflag.FlagSet) (document, Errors) {
	t.Helper()
	root, broken := parse("x.yaml", []byte(yaml))
	if broken != nil {
		t.Fatal(broken)
	}
	d := &decoder{file: "x.yaml", reported: make(map[string]bool)}
	found := make(map[string]any)
	d.sections(&root, schema(), "", func(f *field, e *syntax.Entry) { found[f.path] = &e.Value })
	var doc document
	s := newScalars(d, flags)
	s.decode(&doc, found)
	return doc, append(d.errs, s.errs...)
}

// two are different values of a key, neither of them its default.
func two(t *testing.T, f *field, typ reflect.Type) [2]string {
	var candidates []string
	switch typ {
	case reflect.TypeFor[URLs]():
		candidates = []string{"mqtt://a:1", "mqtt://b:2"}
	case reflect.TypeFor[Hosts]():
		candidates = []string{"a.example.com", "b.example.com"}
	case reflect.TypeFor[time.Duration]():
		candidates = []string{"6s", "7s"}
	case reflect.TypeFor[Size]():
		candidates = []string{"1MiB", "2MiB"}
	case reflect.TypeFor[int]():
		candidates = []string{"7", "8"}
	case reflect.TypeFor[bool]():
		candidates = []string{"true", "false"}
	default:
		candidates = f.oneof
		if candidates == nil && typ.Kind() == reflect.String {
			candidates = []string{"one:1", "two:2"}
		}
	}
	if len(candidates) < 2 {
		t.Fatalf("%s: no samples of %v: add some here", f.path, typ)
	}
	if candidates[0] == f.fallback { // of two words one is the default
		return [2]string{candidates[1], candidates[0]}
	}
	return [2]string(candidates[:2])
}

// For every key: a flag goes before a variable, that before the file, that
// before the default, whether or not the layers between are silent.
func TestPrecedenceOfEveryScalar(t *testing.T) {
	keys := 0
	schema().scalars(reflect.ValueOf(&document{}).Elem(), func(f *field, v reflect.Value) {
		keys++
		t.Run(f.path, func(t *testing.T) {
			values := two(t, f, v.Type())
			type layers struct{ file, env, flag string }
			for _, test := range []struct {
				layers
				want string
			}{
				{layers{}, f.fallback},
				{layers{file: values[0]}, values[0]},
				{layers{env: values[0]}, values[0]},
				{layers{flag: values[0]}, values[0]},
				{layers{file: values[0], env: values[1]}, values[1]},
				{layers{file: values[1], env: values[0]}, values[0]},
				{layers{file: values[0], flag: values[1]}, values[1]},
				{layers{env: values[0], flag: values[1]}, values[1]},
				{layers{env: values[1], flag: values[0]}, values[0]},
				{layers{file: values[0], env: values[0], flag: values[1]}, values[1]},
			} {
				flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
				AddFlags(flags)
				if test.flag != "" {
					if err := flags.Set(f.flag(), test.flag); f.noFlag {
						if err == nil {
							t.Errorf("there is a flag --%s", f.flag())
						}
						continue
					} else if err != nil {
						t.Fatal(err)
					}
				}
				t.Setenv(f.env(), test.env) // empty counts as not set
				got, errs := decodeScalars(t, inSection(f.path, test.file), flags)
				if len(errs) > 0 {
					t.Fatal(errs)
				}
				want := reflect.New(v.Type()).Elem()
				if test.want != "" {
					if err := f.set(want, &syntax.Node{Kind: syntax.Untyped, Text: test.want}); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(fmt.Sprintf("%q", want.Interface()), fmt.Sprintf("%q", at(got, f.path).Interface())); diff != "" {
					t.Errorf("%+v: (-want +got)\n%s", test.layers, diff)
				}
				if secret, ok := at(got, f.path).Interface().(Secret); ok && string(secret) != test.want {
					t.Errorf("%+v: %q, want %q", test.layers, string(secret), test.want)
				}
			}
		})
	})
	if keys < 15 {
		t.Errorf("only %d keys", keys)
	}
}

// inSection writes a value under its path in YAML.
func inSection(path, value string) string {
	if value == "" {
		return ""
	}
	keys := strings.Split(path, ".")
	return strings.Join(keys, ": {") + ": " + value + strings.Repeat("}", len(keys)-1)
}

// at finds the value of a path in a document.
func at(doc document, path string) (found reflect.Value) {
	schema().scalars(reflect.ValueOf(&doc).Elem(), func(f *field, v reflect.Value) {
		if f.path == path {
			found = v
		}
	})
	return found
}

func TestFaultsOfFlagsAndVariablesNameThem(t *testing.T) {
	t.Setenv("TOPICAST_QUEUE_SIZE", "64")
	t.Setenv("TOPICAST_BROKER_URL", "mqtt://a,tcp://b")
	t.Setenv("TOPICAST_BROKER_PASSWORD", "hunter2")
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--log-level=loud", "--web-listen", "nowhere"}); err != nil {
		t.Fatal(err)
	}
	_, err := load("x.yaml", []byte("queue: {size: 5}\n"+oneRule), flags)
	want := `x.yaml:1:15: queue.size: 5 needs a unit, such as 64MiB
TOPICAST_BROKER_URL: broker.url: "tcp://b": the scheme "tcp" is none of mqtt, mqtts, ws, wss
TOPICAST_QUEUE_SIZE: queue.size: 64 needs a unit, such as 64MiB
--log-level: log.level: "loud" is none of debug, info, warn, error
--web-listen: web.listen: "nowhere" is not a host:port
TOPICAST_BROKER_PASSWORD: broker.password: a password without a username, which MQTT 3.1.1 does not allow`
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEmptyFlagTurnsOff(t *testing.T) {
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--web-listen=", "--broker-status-topic="}); err != nil {
		t.Fatal(err)
	}
	c, err := load("x.yaml", []byte("web: {listen: \":1\"}\n"+oneRule), flags)
	if err != nil {
		t.Fatal(err)
	}
	if c.Web.Listen != "" || c.Broker.StatusTopic != "" {
		t.Errorf("listen %q, status topic %q", c.Web.Listen, c.Broker.StatusTopic)
	}
}

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

func TestFilesAreLookedForBesideTheConfiguration(t *testing.T) {
	t.Setenv("TOPICAST_BROKER_TLS_CERT_FILE", "here.pem")
	c, err := load("/etc/topicast/x.yaml", []byte(`
broker:
  url: mqtts://a
  username: gw
  password_file: secret/password
  tls: {ca_file: /ca.pem, cert_file: there.pem, key_file: gw.key}
`+oneRule), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Broker.PasswordFile, c.Broker.TLS.CAFile, c.Broker.TLS.CertFile, c.Broker.TLS.KeyFile}
	want := []string{"/etc/topicast/secret/password", "/ca.pem", "here.pem", "/etc/topicast/gw.key"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSearchForTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("TOPICAST_CONFIG", "")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(oneRule), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	search := []string{"topicast.yaml", filepath.Join(dir, "etc.yaml")}
	expect := func(file, wantFile, wantErr, wantHint string) {
		t.Helper()
		got, _, err := read(file, search)
		switch {
		case wantErr == "" && (err != nil || got != wantFile):
			t.Errorf("%s, %v; want %s", got, err, wantFile)
		case wantErr != "" && (err == nil || err.Error() != wantErr || err.Hint != wantHint):
			t.Errorf("%v; want %s", err, wantErr)
		}
	}
	expect("", "", "no configuration: there is neither topicast.yaml nor "+search[1], writeOne+"; --config names another")
	expect("none.yaml", "", "none.yaml: no such file or directory", writeOne)
	write("etc.yaml")
	expect("", search[1], "", "")
	write("topicast.yaml")
	expect("", "topicast.yaml", "", "")
	write("named.yaml")
	t.Setenv("TOPICAST_CONFIG", "named.yaml")
	expect("", "named.yaml", "", "")
	expect("topicast.yaml", "topicast.yaml", "", "")
	t.Setenv("TOPICAST_CONFIG", "none.yaml")
	expect("", "", "TOPICAST_CONFIG: none.yaml: no such file or directory", writeOne)
	expect(dir, "", dir+": is a directory", "name the file in it: "+filepath.Join(dir, "topicast.yaml"))
}

func TestExtensionTellsTheFormat(t *testing.T) {
	for file, data := range map[string]string{"x.YAML": oneRule, "x.yml": oneRule, "x.JSON": `{"send": [{"filter": "a", "group": "239.1.2.3:5000", "interface": "eth0"}]}`} {
		for _, mark := range []string{"", "\xef\xbb\xbf"} {
			if _, err := load(file, []byte(mark+data), nil); err != nil {
				t.Error(err)
			}
		}
	}
	want := `x.ini: the extension ".ini" is of no format that is known here`
	if _, err := load("x.ini", []byte(oneRule), nil); err == nil || err.Error() != want {
		t.Error(err)
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

func TestWarningsHaveTheirLines(t *testing.T) {
	c, err := load("x.yaml", []byte(`broker: {client_id: gw}
send:
  - filter: a/#
    group: 239.1.2.3:5000
    interface: eth0
  - filter: topicast/+/status
    group: 224.0.0.9:5000
    ttl: 2
    interface: eth0
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `x.yaml:6:13: send[1].filter: matches our own status topic topicast/gw/status, so online and offline are sent to the group too
x.yaml:8:10: send[1].ttl: routers never forward 224.0.0.9:5000 (224.0.0.0/24 is the link, RFC 5771 4), so a ttl of 2 reaches no further than 1`
	if diff := cmp.Diff(want, c.Warnings.Error()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestErrorsAreFoundByErrorsAs(t *testing.T) {
	_, err := load("x.yaml", []byte("log: {level: loud}\n"+oneRule), nil)
	var one *Error
	if !errors.As(err, &one) || one.Path != "log.level" || one.Line != 1 || one.Column != 14 {
		t.Errorf("%#v", one)
	}
}

// lineBreak is what YAML 1.1 takes for the end of a line.
var lineBreak = regexp.MustCompile("\r\n|[\n\r\u0085\u2028\u2029]")

func FuzzLoad(f *testing.F) {
	for file, data := range everyConfiguration(f) {
		f.Add(filepath.Ext(file), data)
	}
	f.Fuzz(func(t *testing.T, ext string, data []byte) {
		c, err := load("x"+ext, data, nil)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		var all Errors
		if err == nil {
			return
		}
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("%T without a fault", err)
		}
		rows := len(lineBreak.FindAllIndex(data, -1)) + 1
		for _, e := range all {
			if e.Line > rows || e.Err == nil || e.Err.Error() == "" {
				t.Errorf("%#v of %d lines", e, rows)
			}
		}
	})
}

// Of a section whose keys are all commented out, only the name is left.
func TestEmptySectionsAreAllowed(t *testing.T) {
	c, err := load("x.yaml", []byte("broker:\n  tls:\n  # ca_file: a\nlog:\n  # level: debug\n"+oneRule), nil)
	if err != nil || c.Log.Format != FormatText {
		t.Errorf("%v, %v", c, err)
	}
}

func TestTOMLTablesMayComeInAnyOrder(t *testing.T) {
	c, err := load("x.toml", []byte(`
[broker.tls]
server_name = "a"
[[send]]
filter = "a"
group = "239.1.2.3:5000"
interface = "eth0"
[broker]
url = "mqtts://b"
`), nil)
	if err != nil || c.Broker.TLS.ServerName != "a" || c.Broker.URLs[0] != "mqtts://b:8883" {
		t.Errorf("%v, %v", c, err)
	}
}

// What somebody else finds out about a key is said where the key is given.
func TestAFaultIsWhereTheKeyIsGiven(t *testing.T) {
	t.Setenv("TOPICAST_BROKER_TLS_CA_FILE", "/ca.pem")
	t.Setenv("STATE_DIRECTORY", "/var/lib/topicast")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--web-listen", "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	c, err := load("x.yaml", []byte("broker:\n  url: mqtts://a\n  username: a\n  password_file:   b\nqueue: {}\n"+oneRule), flags)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"broker.password_file": "x.yaml:4:20: broker.password_file: it",
		"broker.tls.ca_file":   "TOPICAST_BROKER_TLS_CA_FILE: broker.tls.ca_file: it",
		"web.listen":           "--web-listen: web.listen: it",
		"spool.dir":            "STATE_DIRECTORY: spool.dir: it",
		"send[0].interface":    "x.yaml:6:56: send[0].interface: it",
		"send[0].source":       "x.yaml:6:8: send[0].source: it", // not given: the rule
	} {
		f := c.Fault(path, errors.New("it"), "do")
		if f.Error() != want || f.Hint != "do" || f.Variable != (f.Origin == strings.ToUpper(f.Origin)) {
			t.Errorf("%v, %t; want %s", f, f.Variable, want)
		}
	}
}

func TestAFileWithoutAnExtensionIsToldSo(t *testing.T) {
	if _, err := load("gateway", nil, nil); err == nil || !strings.Contains(err.Error(), "has no extension") {
		t.Errorf("no extension: %v", err)
	}
}

// One wrong word in a list of thousands is not thousands of lines in the log, the status and
// the terminal.
func TestFaultsThatAreNamedAreBounded(t *testing.T) {
	load := func(rules int) Errors {
		t.Helper()
		file := filepath.Join(t.TempDir(), "topicast.yaml")
		writeFile(t, file, []byte("send:\n"+strings.Repeat("- { fliter: a, group: '239.1.1.1:5000', interface: iso0 }\n", rules)))
		_, err := Load(file, nil)
		faults, ok := errors.AsType[Errors](err)
		if !ok {
			t.Fatalf("%d rules: %v", rules, err)
		}
		return faults
	}
	each := len(load(1))
	few := maxFaults / each / 2
	if got := len(load(few)); got != few*each {
		t.Errorf("of %d faults %d are named, want all", few*each, got)
	}
	const rules = 1000
	all := load(rules)
	want := fmt.Sprintf("%d more faults", rules*each-maxFaults)
	if len(all) != maxFaults+1 || !strings.Contains(all[maxFaults].Error(), want) {
		t.Errorf("of %d faults there are %d lines, want %d; the last: %v, want: %s", rules*each, len(all), maxFaults+1, all[len(all)-1], want)
	}
}

func TestAConfigurationThatIsTooLongIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	if err := os.WriteFile(file, []byte("# by mistake\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "33554432") {
		t.Errorf("%v, want that it is longer than 33554432 bytes", err)
	}
}
