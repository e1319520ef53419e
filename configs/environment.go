package configs

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"topicast/mapping"
)

// A variable that no key has is a slip: the key that was meant would have its
// default, and nothing would show it. So every variable that begins with TOPICAST_ is
// refused unless it is known, and what nearly is one of ours is warned of.

const (
	envPrefix = "TOPICAST_"
	configVar = envPrefix + "CONFIG" // names the file itself
	listThem  = "topicast config --env lists all variables"
)

// equipment are the variables of the project's own tests and tools. They stay
// exported in the shell of whoever works on it, who may run the program there too;
// none is like a key. What a single test has begins with TOPICAST_TEST_.
var equipment = []string{"TOPICAST_NO_SKIP", "TOPICAST_VM"}

// Variable is a variable of the environment that topicast reads.
type Variable struct {
	Name string
	// Key is the key of the file that it goes before, such as broker.url, or ""
	// for the variable that names the file.
	Key     string
	Default string
	Usage   string
}

// Variables returns those that Load reads, in the order of reference.yaml.
func Variables() []Variable {
	all := []Variable{{
		Name:  configVar,
		Usage: "the configuration file; empty: " + strings.Join(searchPath, " or ") + ", the first there is; --config goes before it",
	}}
	var doc document
	schema().scalars(reflect.ValueOf(&doc).Elem(), func(f *field, _ reflect.Value) {
		usage := f.usage
		if f.limits != nil {
			usage += ", " + f.limits.text
		}
		all = append(all, Variable{f.env(), f.path, f.fallback, usage})
	})
	return all
}

// checkEnvironment reports the variables that were meant for us and are none of ours.
// An empty one counts as not set. No value is shown, since one may be a password.
func checkEnvironment(environ []string) (faults, warnings Errors) {
	variables := Variables()
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		if value == "" {
			continue
		}
		is := name
		if runtime.GOOS == "windows" { // where case does not count
			is = strings.ToUpper(name)
		}
		switch {
		case slices.ContainsFunc(variables, func(v Variable) bool { return v.Name == is }):
		case strings.HasPrefix(is, envPrefix):
			if !slices.Contains(equipment, is) && !strings.HasPrefix(is, "TOPICAST_TEST_") && !ofService(is, environ) {
				faults = append(faults, unknownVariable(name, variables))
			}
		default:
			spelt := spelling(name)
			near, best := "", 3
			for _, v := range variables {
				if d := mapping.Distance(spelt, v.Name, best-1); d < best {
					near, best = v.Name, d
				}
			}
			switch {
			case near == "" || len(spelt) < len(envPrefix):
			case best == 0:
				faults = append(faults, unknownVariable(name, variables))
			default:
				warnings = append(warnings, &Error{Origin: name, Variable: true, Hint: "did you mean " + near + "? " + listThem,
					Err: fmt.Errorf("not read, as it does not begin with %s", envPrefix)})
			}
		}
	}
	return sorted(faults), sorted(warnings)
}

func sorted(list Errors) Errors {
	slices.SortFunc(list, func(a, b *Error) int { return cmp.Compare(a.Origin, b.Origin) })
	return list
}

// ofService reports whether Kubernetes has set the variable: a service named topicast,
// or topicast-metrics, gives every container of its namespace an address of it in
// TOPICAST_SERVICE_HOST, in TOPICAST_PORT, and in more.
func ofService(name string, environ []string) bool {
	for _, one := range environ {
		is, _, _ := strings.Cut(one, "=")
		service, found := strings.CutSuffix(is, "_SERVICE_HOST")
		if !found || service+"_" != envPrefix && !strings.HasPrefix(service, envPrefix) {
			continue
		}
		for _, its := range []string{"_SERVICE_HOST", "_SERVICE_PORT", "_PORT"} {
			if name == service+its || its != "_SERVICE_HOST" && strings.HasPrefix(name, service+its+"_") {
				return true
			}
		}
	}
	return false
}

// unknownVariable returns the fault of a variable that belongs to no key, with the one
// that was meant.
func unknownVariable(name string, variables []Variable) *Error {
	unknown := &Error{Origin: name, Variable: true, Err: errors.New("unknown variable; it belongs to no key of the configuration")}
	rest := strings.TrimPrefix(spelling(name), envPrefix)
	words := strings.Split(rest, "_")
	section := schema().field(strings.ToLower(words[0]))
	meant := meantVariable(rest, variables)
	switch {
	case section != nil && section.list:
		unknown.Err = fmt.Errorf("the rules of %s are in the file only; no variable gives one, or a key of one", section.key)
		unknown.Hint = fmt.Sprintf("write it into the list %s of the file; where hosts differ, make the file for each before the start", section.key)
	case meant != "":
		unknown.Hint = "did you mean " + meant + "? " + listThem
	case section != nil:
		var its []string
		for _, v := range variables {
			if strings.HasPrefix(v.Key, section.key+".") {
				its = append(its, v.Name)
			}
		}
		unknown.Hint = fmt.Sprintf("the section %s has %s", section.key, strings.Join(its, ", "))
	default:
		unknown.Hint = listThem + "; what is not for topicast must not begin with " + envPrefix
	}
	return unknown
}

// spelling returns a name in the way that ours are spelt: TOPICAST_BROKER_URL for
// topicast__broker.url.
func spelling(name string) string {
	words := strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	return strings.Join(words, "_")
}

// meantVariable returns the variable that one was meant to be, of which rest is what
// follows the prefix; or "".
func meantVariable(rest string, variables []Variable) string {
	if schema().field(strings.ToLower(rest)) != nil {
		return "" // a whole section
	}
	for _, likely := range []func(its, key string) (difference int, is bool){
		// Words are missing: PASSWORD, BROKER_CA_FILE.
		func(its, _ string) (int, bool) {
			have := strings.Split(its, "_")
			for word := range strings.SplitSeq(rest, "_") {
				i := slices.Index(have, word)
				if i < 0 {
					return 0, false
				}
				have = have[i+1:]
			}
			return len(its), true
		},
		// Its end is missing: BROKER_USER.
		func(its, _ string) (int, bool) { return len(its), strings.HasPrefix(its, rest) },
		// Some letters are off, in the whole name, or in one without its section.
		func(its, key string) (int, bool) {
			most := min(len(rest)/3, 3)
			if d := mapping.Distance(rest, its, most); d <= most {
				return d, true
			}
			most = len(rest) / 4
			d := mapping.Distance(rest, key, most)
			return d, key != "" && d <= most
		},
		// It has words too many: CONFIG_FILE, BROKER_URL_LIST.
		func(its, _ string) (int, bool) { return -len(its), strings.HasPrefix(rest, its+"_") },
	} {
		meant, least := "", 0
		for _, v := range variables {
			_, key, _ := strings.Cut(v.Key, ".")
			d, is := likely(strings.TrimPrefix(v.Name, envPrefix), spelling(key))
			if is && (meant == "" || d < least) {
				meant, least = v.Name, d
			}
		}
		if meant != "" {
			return meant
		}
	}
	return ""
}
