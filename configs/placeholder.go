package configs

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// A placeholder stands for what another program would put in: a shell, Docker
// Compose, Helm, Ansible. Here nothing does, and taken as it is it would make a
// broker that does not exist, or two gateways with the client_id gw-${HOSTNAME}. So
// it is a fault that says what there is instead.

var (
	// ${NAME} ${NAME:-else} ${env:NAME} {$NAME} $(NAME) {{ name }}
	placeholders = regexp.MustCompile(`\$\{[A-Za-z_][^{}]*\}|\{\$[A-Za-z_]\w*\}|\$\([A-Za-z_]\w*\)|\{\{.*\}\}|\{\{-`)
	// What of these cannot be $ and {…}, which in rules is a capture, or an address.
	rulePlaceholders = regexp.MustCompile(`\$\{[A-Z_][A-Z0-9_]*(?:[:?=+-][^{}]*)?\}|\{\$[A-Za-z_]\w*\}|\$\([A-Za-z_]\w*\)|\{\{.*\}\}`)
	// $NAME, in capitals as variables of the environment are.
	barePlaceholder = regexp.MustCompile(`\$[A-Z_][A-Z0-9_]+`)
)

// freeTexts are keys whose text may begin a word with $ and mean it, as topics do.
var freeTexts = []string{"broker.client_id", "broker.username", "broker.status_topic", "name", "filter", "topic"}

// placeholder returns a fault if the value holds a placeholder, or an item of it does.
func (f *field) placeholder(v reflect.Value, n *syntax.Node) error {
	if n.Kind == syntax.List {
		for i := range n.Entries {
			item := &n.Entries[i].Value
			if err := f.placeholder(v, item); item.Kind == syntax.Text && err != nil {
				return withPlace(item.At, err)
			}
		}
		return nil
	}
	if n.Kind != syntax.Text && n.Kind != syntax.Untyped || !strings.Contains(n.Text, "$") && !strings.Contains(n.Text, "{{") {
		return nil
	}
	found := ""
	switch v.Addr().Interface().(type) {
	case *Secret: // may be anything, but no one has that for a password
		if found = placeholders.FindString(n.Text); found != n.Text {
			found = ""
		}
	case *mapping.Payload, *mapping.Encoding: // a JSON pointer may have any letters
		return nil
	case *mapping.Filter, *mapping.Topic, *mapping.Group, *mapping.Host, *[]mapping.GroupRange:
		found = rulePlaceholders.FindString(n.Text)
	default:
		found = placeholders.FindString(n.Text)
	}
	if found == "" && !f.secret && !slices.Contains(freeTexts, f.path) {
		found = barePlaceholder.FindString(n.Text)
	}
	switch {
	case found == "":
		return nil
	case f.secret:
		found = "a placeholder"
	default:
		found = withoutElse(found)
	}
	if v.Kind() == reflect.String && !strings.Contains(f.path, ".") {
		v.SetString(n.Text) // a rule does not lack its interface too
	}
	if n.Kind == syntax.Untyped { // given by a variable or a flag
		return withHint("write the value itself: EnvironmentFile= of systemd and docker run --env-file do not replace it either",
			fmt.Errorf("holds %s, which nothing replaces", found))
	}
	return withHint(f.instead(), fmt.Errorf("holds %s, which nothing replaces: variables of the environment are not put into this file", found))
}

// withoutElse leaves out what stands in a placeholder beside the name, which may be a
// password: ${NAME:-else}.
func withoutElse(found string) string {
	if strings.HasPrefix(found, "{{") {
		return "{{…}}"
	}
	if name, is := strings.CutPrefix(found, "${"); is {
		if i := strings.IndexAny(name, ":?=+-"); i >= 0 {
			return "${" + name[:i] + name[i:i+1] + "…}"
		}
	}
	return found
}

// instead returns what to do instead of a placeholder in the file.
func (f *field) instead() string {
	if !strings.Contains(f.path, ".") {
		return "write the value itself; no variable gives a key of a rule: where hosts differ, make the file of each before the start, with envsubst for example"
	}
	return "set the variable " + f.env() + " to the whole value: it goes before this file"
}

// warnOfPlaceholder warns of a $NAME where it may be meant.
func (f *field) warnOfPlaceholder(written string) error {
	found := barePlaceholder.FindString(written)
	if found == "" || !slices.Contains(freeTexts, f.path) || strings.HasPrefix(written, found+"/") { // $SYS/…
		return nil
	}
	return withHint(f.instead(), fmt.Errorf("holds %s, which nothing replaces; it is taken as it is", found))
}

// replaced returns a hint for a place where there should be more than a text, or where
// the text is not of its format; "" if no placeholder is in it.
func replaced(text string) string {
	if !placeholders.MatchString(text) {
		return ""
	}
	return "nothing replaces ${…} or {{…}} in this file: a key that is not in a list can be given by a variable instead (topicast config --env lists them)"
}
