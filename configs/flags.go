package configs

import (
	"reflect"
	"time"

	"github.com/spf13/pflag"
)

// AddFlags adds a flag for each scalar outside the rules: --broker-url for
// broker.url. The password has none, since ps shows a command line to everyone.
//
// Each takes a value, those of true and false too: were --loops-guard enough for
// true, --loops-guard false would be true and an argument.
func AddFlags(fs *pflag.FlagSet) {
	var doc document
	schema().scalars(reflect.ValueOf(&doc).Elem(), func(f *field, v reflect.Value) {
		if !f.noFlag {
			usage := f.usage
			if f.limits != nil {
				usage += ", " + f.limits.text
			}
			fs.Var(&flagText{text: f.fallback, kind: f.kindName(v.Type())}, f.flag(), usage)
		}
	})
}

// flagText is a flag whose text Load decodes, as it does a variable's.
type flagText struct {
	text, kind string
}

func (t *flagText) String() string { return t.text }
func (t *flagText) Type() string   { return t.kind }

func (t *flagText) Set(s string) error {
	t.text = s
	return nil
}

// kindName is what the help calls the value.
func (f *field) kindName(t reflect.Type) string {
	switch {
	case f.file:
		return "file"
	case t == reflect.TypeFor[URLs]():
		return "url,..."
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Size]():
		return "size"
	case t.Kind() == reflect.Bool:
		return "true|false"
	case t.Kind() == reflect.Int:
		return "number"
	default:
		return "text"
	}
}
