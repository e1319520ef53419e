package configs

import (
	"reflect"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// FlagValues is the annotation of a flag that has all values that it takes.
const FlagValues = "topicast_values"

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
			kind := f.kindName(v.Type())
			fs.Var(&flagText{text: f.fallback, kind: kind}, f.flag(), usage)
			values := f.oneof
			if kind == trueOrFalseFlag {
				values = strings.Split(kind, "|")
			}
			if len(values) > 0 {
				_ = fs.SetAnnotation(f.flag(), FlagValues, values) // fails only without the flag
			}
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

const trueOrFalseFlag = "true|false"

// kindName returns what the help calls the value.
func (f *field) kindName(t reflect.Type) string {
	switch {
	case f.oneof != nil:
		return strings.Join(f.oneof, "|")
	case f.folder:
		return "folder"
	case f.file:
		return "file"
	case t == reflect.TypeFor[URLs]():
		return "url,..."
	case t == reflect.TypeFor[Hosts](), t == reflect.TypeFor[Protocols]():
		return "name,..."
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Size]():
		return "size"
	case t.Kind() == reflect.Bool:
		return trueOrFalseFlag
	case t.Kind() == reflect.Int:
		return "number"
	default:
		return "text"
	}
}
