package configs

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"topicast/configs/syntax"
)

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
	case reflect.TypeFor[Hosts](), reflect.TypeFor[Protocols]():
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
TOPICAST_BROKER_URL: broker.url: "tcp://b": the scheme "tcp" is none of mqtt, mqtts, ws, wss, unix, mqtt+srv, mqtts+srv
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
