package configs

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChangedNamesTheKeys(t *testing.T) {
	before := mustLoad(t, "broker: {client_id: a, username: u, password: p}\n"+oneRule, nil)
	for yaml, want := range map[string][]string{
		"broker: {client_id: a, username: u, password: p}\n" + oneRule + oneReceive:                       nil,
		"broker: {client_id: a, username: u, password: q}\n" + oneRule:                                    {"broker.password"},
		"broker: {client_id: a, username: u, password: p, url: [mqtt://b]}\n" + oneRule:                   {"broker.url"},
		"web: {listen: \"\"}\nbroker: {client_id: a, username: u, password: p}\n" + oneRule:               {"web.listen"},
		"log: {level: debug, format: json}\nbroker: {client_id: a, username: u, password: p}\n" + oneRule: {"log.level", "log.format"},
	} {
		if diff := cmp.Diff(want, mustLoad(t, yaml, nil).Changed(before)); diff != "" {
			t.Errorf("%s(-want +got)\n%s", yaml, diff)
		}
	}
}

// A section that Config has and Changed does not compare would change unnoticed.
func TestChangedLooksAtEveryKey(t *testing.T) {
	before := mustLoad(t, oneRule, nil)
	after := *before
	var want []string
	for _, section := range []any{&after.Broker, &after.Queue, &after.Spool, &after.Loops, &after.Web, &after.Control, &after.Log} {
		alter(reflect.ValueOf(section).Elem())
	}
	schema().scalars(reflect.ValueOf(&document{}).Elem(), func(f *field, _ reflect.Value) { want = append(want, f.path) })
	if got := after.Changed(before); !slices.Equal(want, got) {
		t.Errorf("(-want +got)\n%s", cmp.Diff(want, got))
	}
}

// alter gives every field another value.
func alter(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			alter(v.Field(i))
		}
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.ValueOf("mqtt://altered")))
	default:
		v.SetInt(v.Int() + int64(time.Second))
	}
}
