package configs

import (
	"errors"
	"path/filepath"
	"reflect"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"topicast/configs/syntax"
)

// scalars decodes the keys outside the rules, each from the highest layer that has it.
//
// viper decides which that is, and gets no more than it needs for that. It does not
// read the file: its maps have no lines, keys in lower case only, and one of two equal
// keys. It is an instance of our own, since the global one is shared. Its keys are
// the paths, with a delimiter that none contains, so that it does not take them
// apart. Every variable is bound by its name, since AutomaticEnv sees only keys
// that the file has. And a value of the file is its node, so that it comes back
// with its line. What it returns is decoded by field.set, which says why.
type scalars struct {
	decoder *decoder
	viper   *viper.Viper
	flags   *pflag.FlagSet
	origins map[string]origin // by path

	errs     Errors // of flags and variables
	warnings Errors // of them and of the file
}

// origin is where a value comes from.
type origin struct {
	layer layer
	name  string       // of the variable or the flag
	at    syntax.Place // in the file
}

// layer is one of the places where a value may be given; the higher one wins.
type layer uint8

const (
	layerDefault layer = iota
	layerFile
	layerEnv
	layerFlag
)

func newScalars(d *decoder, flags *pflag.FlagSet) *scalars {
	return &scalars{
		decoder: d,
		viper:   viper.NewWithOptions(viper.KeyDelimiter("\x00")),
		flags:   flags,
		origins: make(map[string]origin),
	}
}

// decode fills in doc. file has the values of the file, *syntax.Node by path.
func (s *scalars) decode(doc *document, file map[string]any) {
	_ = s.viper.MergeConfigMap(file) // cannot fail
	schema().scalars(reflect.ValueOf(doc).Elem(), s.one)
}

func (s *scalars) one(f *field, v reflect.Value) {
	if f.fallback != "" {
		f.mustSet(v)
	}
	// The file's value is decoded even where another goes before it: a fault in
	// the file is a fault.
	if n, ok := s.viper.Get(f.path).(*syntax.Node); ok {
		s.origins[f.path] = origin{layer: layerFile, at: n.At}
		s.fromFile(f, v, n)
		if err := f.warnOfPlaceholder(n.Text); err != nil {
			s.warn(f.path, err)
		}
	}
	from := s.bind(f)
	if written, ok := s.viper.Get(f.path).(string); ok {
		s.origins[f.path] = from
		err := f.set(v, &syntax.Node{Kind: syntax.Untyped, Text: written})
		quoted := from.layer == layerEnv && inQuotes(written)
		switch {
		case err != nil && quoted:
			s.report(f.path, withHint(takeQuotesOff, err))
		case err != nil:
			s.report(f.path, err)
		case quoted:
			s.warn(f.path, withHint(takeQuotesOff, errors.New("the value is in quotes, and they are part of it")))
		}
	}
}

const takeQuotesOff = "write it without quotes: docker run --env-file, unlike a shell, does not take them off"

func inQuotes(s string) bool {
	last := len(s) - 1
	return last > 0 && s[0] == s[last] && (s[0] == '"' || s[0] == '\'')
}

// bind binds the key's variable and flag in viper, and returns the one that viper
// will use, if it uses either.
func (s *scalars) bind(f *field) origin {
	_ = s.viper.BindEnv(f.path, f.env()) // fails only without a name
	if s.flags != nil {
		if flag := s.flags.Lookup(f.flag()); flag != nil {
			_ = s.viper.BindPFlag(f.path, flag) // fails only without a flag
			if flag.Changed {
				return origin{layer: layerFlag, name: "--" + flag.Name}
			}
		}
	}
	return origin{layer: layerEnv, name: f.env()}
}

func (s *scalars) fromFile(f *field, v reflect.Value, n *syntax.Node) {
	if err := f.set(v, n); err != nil {
		s.report(f.path, err)
		return
	}
	// A file is looked for beside the configuration, which whoever writes it can
	// see, and not where the daemon happens to be started.
	if f.file && n.Text != "" && !filepath.IsAbs(n.Text) {
		v.SetString(filepath.Join(filepath.Dir(s.decoder.file), n.Text))
	}
}

// report reports a fault of a key where its value comes from.
func (s *scalars) report(path string, err error) {
	from := s.origins[path]
	if from.name == "" {
		s.decoder.fault(from.at, path, err)
		return
	}
	s.decoder.reported[path] = true
	s.errs = append(s.errs, &Error{Origin: from.name, Path: path, Err: err, Hint: detailsOf(err).hint, Variable: from.layer == layerEnv})
}

// warn warns of a key where its value comes from.
func (s *scalars) warn(path string, err error) {
	from := s.origins[path]
	e := &Error{Origin: from.name, Path: path, Err: err, Hint: detailsOf(err).hint, Variable: from.layer == layerEnv}
	if from.name == "" {
		e.Origin, e.Line, e.Column = s.decoder.file, int(from.at.Line), int(from.at.Column)
	}
	s.warnings = append(s.warnings, e)
}
