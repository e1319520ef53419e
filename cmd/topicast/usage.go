package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"topicast/configs"
	"topicast/mapping"
)

// checkArguments holds the number of arguments to the usage line, so that help
// and command cannot disagree: WORD must be given, [WORD] may be, and [WORD]...
// may be more than once.
func checkArguments(c *cobra.Command, args []string) error {
	words := strings.Fields(c.Use)[1:]
	for i, word := range words {
		switch {
		case strings.HasSuffix(word, "..."):
			return nil
		case len(args) <= i && !strings.HasPrefix(word, "["):
			return usageError(fmt.Errorf("%s: %s is missing", c.CommandPath(), word))
		}
	}
	if len(args) > len(words) {
		err := fmt.Errorf("%s: %q is one argument too many", c.CommandPath(), args[len(words)])
		if hint := surplusHint(c, args, len(words)); hint != "" {
			return usageError(withHint(err, hint))
		}
		return usageError(err)
	}
	return nil
}

// surplusHint tells what arguments were meant to be that are more than a command
// takes, if that shows: above all the configuration, which only check takes so.
func surplusHint(c *cobra.Command, args []string, takes int) string {
	if i := slices.IndexFunc(args, isConfiguration); i >= 0 {
		file, rest := args[i], slices.Delete(slices.Clone(args), i, i+1)
		switch {
		case c.Flags().Lookup("config") != nil:
			return strings.Join(append(append([]string{c.CommandPath()}, shellWords(rest[:min(len(rest), takes)])...), "--config", shellWord(file)), " ")
		case c.Name() == "config":
			return "topicast config > " + shellWord(file)
		}
		return "topicast run --config " + shellWord(file) + " runs the bridge with that configuration"
	}
	for i := range len(args) - 1 {
		_, noAddr := netip.ParseAddr(args[i])
		if _, noPort := strconv.ParseUint(args[i+1], 10, 16); noAddr == nil && noPort == nil {
			return "the port belongs to the group: " + joinPort(args[i], args[i+1])
		}
	}
	if takes > 0 {
		return "put quotes around an argument with spaces in it"
	}
	return ""
}

func joinPort(addr, port string) string {
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port
}

// isConfiguration reports whether an argument is a configuration: by its extension, or
// by being a file.
func isConfiguration(arg string) bool {
	for _, ext := range extensions {
		if strings.HasSuffix(strings.ToLower(arg), "."+ext) {
			return true
		}
	}
	info, err := os.Stat(arg)
	return err == nil && info.Mode().IsRegular()
}

// extensions are those of a configuration.
var extensions = []string{"yaml", "yml", "toml", "json"}

func shellWords(args []string) []string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = shellWord(arg)
	}
	return words
}

// shellWord is an argument as a shell takes it.
func shellWord(arg string) string { return mapping.ShellWord(printable(arg)) }

// checkCommand explains a first word that is no command.
func checkCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("there is no command %q", args[0])
	if meant := root.SuggestionsFor(args[0]); len(meant) > 0 {
		return usageError(withHint(err, "did you mean topicast "+strings.Join(meant, " or topicast ")+"?"))
	}
	if file := shellWord(args[0]); isConfiguration(args[0]) {
		return usageError(withHint(err, "topicast check "+file+", or topicast run --config "+file))
	}
	return usageError(withHint(err, "topicast help lists all commands"))
}

// flagError explains a flag that is none of the command's, and a value that a flag
// cannot have.
func flagError(c *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if hint := unknownFlagHint(c, unknown.GetSpecifiedName()); hint != "" {
			return usageError(withHint(err, hint))
		}
	}
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError(err)
	}
	// pflag has the words of package strconv in it.
	f, value, cause := invalid.GetFlag(), invalid.GetValue(), invalid.Unwrap()
	switch kind := f.Value.Type(); kind {
	case "duration":
		cause = fmt.Errorf("%q is not a duration, such as 500ms, 30s or 1h30m", value)
	case "int", "uint8", "uint16":
		cause = fmt.Errorf("%q is not a whole number%s", value, boundsText[kind])
	case "bool":
		cause = fmt.Errorf("%q is neither true nor false", value)
	}
	told := fmt.Errorf("--%s: %w", f.Name, cause)
	if h, ok := errors.AsType[hinted](cause); ok {
		return usageError(withHint(told, h.hint))
	}
	return usageError(told)
}

var boundsText = map[string]string{"uint8": " up to 255", "uint16": " up to 65535"}

// shorthands are flags of one letter in other programs.
var shorthands = map[string][]string{
	"c": {"config", "count"}, "f": {"config", "file"}, "i": {"interface"}, "n": {"count"}, "s": {"source"},
	"t": {"ttl", "for"}, "v": {"log-level", "version"}, "w": {"for"}, "x": {"hex"},
}

// unknownFlagHint finds the flag that one that is not known was meant to be: one of
// the command, or of others.
func unknownFlagHint(c *cobra.Command, written string) string {
	if len(written) == 1 {
		for _, name := range shorthands[strings.ToLower(written)] {
			if c.Flags().Lookup(name) != nil {
				return "did you mean --" + name + "?"
			}
		}
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if meant := configs.Meant(written, names); meant != "" {
		return "did you mean --" + meant + "?"
	}
	meant := ""
	for _, name := range names { // --url for --broker-url, and not for --broker-proxy-url
		if strings.HasSuffix(name, "-"+strings.ReplaceAll(written, "_", "-")) && (meant == "" || len(name) < len(meant)) {
			meant = name
		}
	}
	if meant != "" {
		return "did you mean --" + meant + "?"
	}
	if meant := begunAlike(written, names); meant != "" { // --dropt for --dropped
		return "did you mean --" + meant + "?"
	}
	var have []string
	for _, other := range c.Root().Commands() {
		if other.Flags().Lookup(written) != nil {
			have = append(have, "topicast "+other.Name()+" --"+written)
		}
	}
	const most = 3 // of which the rest is "and others"
	switch {
	case len(have) > most:
		return "there is " + strings.Join(have[:most], ", ") + " and others"
	case len(have) > 0:
		return "there is " + strings.Join(have, ", ")
	}
	return ""
}

// begunAlike is the only one of some names that begins as a word that is none of them does, with all but its last
// letter, or two; "" if that leaves none or several.
func begunAlike(written string, names []string) (meant string) {
	for end := len(written) - 1; end >= max(4, len(written)-2); end-- {
		for _, name := range names {
			if !strings.HasPrefix(name, written[:end]) {
				continue
			}
			if meant != "" {
				return ""
			}
			meant = name
		}
		if meant != "" {
			return meant
		}
	}
	return ""
}

// onlyOnce has flags that take one text be refused where they are given twice: the last would count, and
// who writes two means both.
func onlyOnce(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "string" {
			f.Value = &once{Value: f.Value}
		}
	})
}

type once struct {
	pflag.Value
	given bool
}

func (o *once) Set(text string) error {
	if o.given && text != o.String() { // a completion parses twice
		return fmt.Errorf("it is given twice, and takes one value; the first is %s", o)
	}
	o.given = true
	return o.Value.Set(text)
}
