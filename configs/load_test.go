package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
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
		fmt.Fprintf(&b, "%v %v %v %v %v %v %v\n", c.Broker, c.Queue, c.Spool, c.Loops, c.Web, c.Control, c.Log)
		for _, r := range c.Table.Send() {
			fmt.Fprintf(&b, "%s|%s|%d|%s|%v|%v|%s|%v|%v\n", r.Name, r.Filter, r.QoS, r.Group, r.Binding, r.Retained, r.Payload, r.OnDown, r.MaxAge)
		}
		for _, r := range c.Table.Receive() {
			fmt.Fprintf(&b, "%s|%v|%s|%v|%s|%d|%v|%s|%v|%v\n", r.Name, r.Groups, r.Interface, r.Sources, r.Topic, r.QoS, r.Retain, r.Encoding, r.Every, r.OnChange)
		}
		shown[file] = b.String()
	}
	host, _ := os.Hostname()
	want := fmt.Sprintf(`{[mqtt://a:1883 wss://b:443/mqtt] 0s topicast-%[1]s 1234 (secret)   0s {   c []} {  }  auto 1m30s persistent 0s topicast/topicast-%[1]s/status 3  1000 0 0 0 false 0} {1GB} {/srv/spool 1TiB 8760h0m0s} {false 65536 10s 0s 16} {127.0.0.1:9479 []} {auto} {DEBUG text}
é😀/|a/{x}|1|239.1.2.{x}:5000|{10.0.0.0/8  0 16 false 46 false false  true}|once|raw|spool|8760h0m0s
b|b|2|[ff15::1]:5000|{invalid Prefix eth0 7 1 true 46 true false  false}|never|json:/a|hex|latest|1m30s
ü|[239.1.2.3:5000 239.1.2.8-239.1.2.9:5001]|eth0|[192.0.2.7/32 198.51.100.0/24]|a/{source}|1|true|json|1.5s|true
[ff15::1]:5000|[[ff15::1]:5000]|fd00::1|[fd00::/64]|b|0|false|raw|0s|false
`, host)
	for file, got := range shown {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", file, diff)
		}
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
	loadKey := func(key string, rules int) Errors {
		t.Helper()
		file := filepath.Join(t.TempDir(), "topicast.yaml")
		writeFile(t, file, []byte("send:\n"+strings.Repeat("- { "+key+": a, group: '239.1.1.1:5000', interface: iso0 }\n", rules)))
		_, err := Load(file, nil)
		faults, ok := errors.AsType[Errors](err)
		if !ok {
			t.Fatalf("%d rules: %v", rules, err)
		}
		return faults
	}
	load := func(rules int) Errors { return loadKey("fliter", rules) }
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
	// Of still more not even all are found out.
	all = load(5 * mostFaults)
	want = fmt.Sprintf("at least %d more faults", mostFaults-maxFaults)
	if len(all) != maxFaults+1 || !strings.Contains(all[maxFaults].Error(), want) {
		t.Errorf("of %d faulty rules there are %d lines; the last: %v, want: %s", 5*mostFaults, len(all), all[len(all)-1], want)
	}
	// Nor are those that only the rules as a whole show, such as a name that all have.
	all = loadKey("filter", 3*mostFaults)
	if len(all) != maxFaults+1 || !strings.Contains(all[maxFaults].Error(), want) {
		t.Errorf("of %d rules of one name there are %d lines; the last: %v, want: %s", 3*mostFaults, len(all), all[len(all)-1], want)
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
	if _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "8388608") {
		t.Errorf("%v, want that it is longer than 8388608 bytes", err)
	}
	// Of a file that tells its length nothing is read, of what does not no more than is needed.
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = readAtMost(f, file, maxFile)
	if at, _ := f.Seek(0, io.SeekCurrent); err == nil || at != 0 {
		t.Errorf("%v after %d bytes", err, at)
	}
	endless := strings.NewReader(strings.Repeat("# by mistake\n", 1000))
	length := endless.Len()
	if _, err := readAtMost(endless, "-", 100); err == nil || !strings.Contains(err.Error(), "longer than 100 bytes") || length-endless.Len() > 101 {
		t.Errorf("%v after %d bytes", err, length-endless.Len())
	}
}
