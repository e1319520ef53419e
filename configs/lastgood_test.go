package configs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// kept writes a file, loads it and keeps it as the last good one.
func kept(t *testing.T, file, dir, content string) {
	t.Helper()
	writeText(t, file, content)
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(dir); err != nil {
		t.Fatal(err)
	}
}

func writeText(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

const withSecret = "broker: {username: u, password: geheim, tls: {ca_file: ca.pem}, url: \"mqtts://h\"}\n" + oneRule

func TestLastGoodStandsInForEveryKindOfBadFile(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"syntax":      func(f string) error { return os.WriteFile(f, []byte("send: [\n"), 0o600) },
		"unknown key": func(f string) error { return os.WriteFile(f, []byte("nonsense: 1\n"+oneRule), 0o600) },
		"no rules":    func(f string) error { return os.WriteFile(f, nil, 0o600) },
		"binary":      func(f string) error { return os.WriteFile(f, make([]byte, 4096), 0o600) },
		"gone":        os.Remove,
		"a folder": func(f string) error {
			return errors.Join(os.Remove(f), os.Mkdir(f, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state", "topicast")
			t.Setenv("STATE_DIRECTORY", state)
			file := filepath.Join(t.TempDir(), "x.yaml")
			kept(t, file, state, withSecret)
			if err := spoil(file); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(file, nil); err == nil {
				t.Fatal("it is not spoilt")
			}
			c, good, err := LoadLastGood(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Table.Send()) != 1 || c.File != file || c.Broker.Secret != "geheim" {
				t.Errorf("loaded %+v", c)
			}
			if want := filepath.Join(filepath.Dir(file), "ca.pem"); c.Broker.TLS.CAFile != want {
				t.Errorf("ca_file is %s, want %s, beside the original", c.Broker.TLS.CAFile, want)
			}
			info, err := os.Stat(good.Path)
			if err != nil {
				t.Fatal(err)
			}
			if !good.At.Equal(info.ModTime()) {
				t.Errorf("kept at %v", good.At)
			}
			if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("the copy has mode %v, and there are secrets in it", mode)
			}
		})
	}
}

// A copy is of one file: another configuration does not get its rules.
func TestLastGoodOfAnotherFileIsNotTaken(t *testing.T) {
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	kept(t, filepath.Join(t.TempDir(), "one.yaml"), state, oneRule)
	if _, _, err := LoadLastGood(filepath.Join(t.TempDir(), "other.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestLastGoodIsFoundWithoutANamedFile(t *testing.T) {
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	t.Setenv("TOPICAST_CONFIG", "")
	t.Chdir(t.TempDir())
	kept(t, "topicast.yaml", state, oneRule)
	if err := os.Remove("topicast.yaml"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadLastGood("", nil); err != nil {
		t.Error(err)
	}
}

// Where systemd gives no folder it is that of the spool, wherever that is said, as
// far as it can be read.
func TestLastGoodIsFoundInTheFolderOfTheSpool(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	dir := t.TempDir()
	file := filepath.Join(dir, "x.yaml")
	spool := "spool:\n  dir: held\n"
	flags := func(args ...string) *pflag.FlagSet {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		AddFlags(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	kept(t, file, filepath.Join(dir, "held"), spool+oneRule)
	for name, tt := range map[string]struct {
		bad, env string
		args     []string
		found    bool
	}{
		"the file, of good syntax":     {bad: spool + "nonsense: 1\n", found: true},
		"the file, above a bad line":   {bad: spool + "send:\n  - filter: a\n    group: {a}:5000\n", found: true},
		"the file, below a bad line":   {bad: "send: {a}:5000\n" + spool},
		"a flag":                       {bad: "[", args: []string{"--spool-dir", filepath.Join(dir, "held")}, found: true},
		"a flag goes before the file":  {bad: spool + "nonsense: 1\n", args: []string{"--spool-dir", dir}},
		"a variable":                   {bad: "[", env: filepath.Join(dir, "held"), found: true},
		"nothing says where":           {bad: "["},
		"the file has an empty folder": {bad: "spool: {dir: \"\"}\nnonsense: 1\n"},
	} {
		t.Setenv("TOPICAST_SPOOL_DIR", tt.env)
		writeText(t, file, tt.bad)
		_, _, err := LoadLastGood(file, flags(tt.args...))
		if found := err == nil; found != tt.found || !found && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestADamagedLastGoodIsNotTaken(t *testing.T) {
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	file := filepath.Join(t.TempDir(), "x, sha256 \".yaml")
	kept(t, file, state, oneRule)
	path := filepath.Join(state, lastGoodName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadLastGood(file, nil); err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"a byte":    strings.Replace(string(whole), "239.", "238.", 1),
		"cut":       string(whole[:len(whole)-1]),
		"empty":     "",
		"no head":   oneRule,
		"a version": strings.Replace(string(whole), "version 1", "version 2", 1),
	} {
		writeText(t, path, damaged)
		if _, _, err := LoadLastGood(file, nil); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A flag with a fault spoils the copy as well; a fault of the copy has its line there.
func TestLastGoodHasTheFaultsOfFlagsAndItsOwn(t *testing.T) {
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	file := filepath.Join(t.TempDir(), "x.yaml")
	kept(t, file, state, "\n"+oneRule)
	t.Setenv("TOPICAST_QUEUE_SIZE", "5")
	if _, _, err := LoadLastGood(file, nil); err == nil || !strings.Contains(err.Error(), "TOPICAST_QUEUE_SIZE: ") {
		t.Errorf("error %v", err)
	}
	t.Setenv("TOPICAST_QUEUE_SIZE", "")
	c := &Config{File: file, content: []byte("\nnonsense: 1\n" + oneRule)} // as an older version took it
	if err := c.Keep(state); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(state, lastGoodName) + ":3:1: nonsense: unknown key"
	if _, _, err := LoadLastGood(file, nil); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// An SD card is not written to for what is there, and what is there is left whole
// when there is no room.
func TestKeepWritesOnlyWhatIsNew(t *testing.T) {
	state := t.TempDir()
	file := filepath.Join(t.TempDir(), "x.yaml")
	kept(t, file, state, oneRule)
	before, err := os.Stat(filepath.Join(state, lastGoodName))
	if err != nil {
		t.Fatal(err)
	}
	kept(t, file, state, oneRule)
	if after, err := os.Stat(filepath.Join(state, lastGoodName)); err != nil || !os.SameFile(before, after) {
		t.Errorf("written again (%v)", err)
	}
	writeText(t, filepath.Join(state, lastGoodName+".new"), "of a crash")
	kept(t, file, state, "# new\n"+oneRule)
	if after, err := os.Stat(filepath.Join(state, lastGoodName)); err != nil || os.SameFile(before, after) {
		t.Errorf("not written (%v)", err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// Former is what a process before had, if that was of this file, and another.
func TestFormerIsTheTableOfTheProcessBefore(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STATE_DIRECTORY", dir)
	file, other := filepath.Join(dir, "x.yaml"), filepath.Join(dir, "y.yaml")
	former := func(file string) string {
		t.Helper()
		c, err := Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		table := c.Former(nil)
		if table == nil {
			return "none"
		}
		return table.Subscriptions()[0].Filter
	}
	writeText(t, file, oneRule)
	if got := former(file); got != "none" {
		t.Error("before anything was kept:", got)
	}
	kept(t, file, dir, oneRule)
	if got := former(file); got != "none" {
		t.Error("the same:", got)
	}
	writeText(t, file, strings.ReplaceAll(oneRule, "filter: ", "filter: new/"))
	writeText(t, other, strings.ReplaceAll(oneRule, "filter: ", "filter: new/"))
	was, err := Load(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(was.Table.Subscriptions()[0].Filter, "new/")
	if got := former(file); got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	if got := former(other); got != "none" {
		t.Error("of another file:", got)
	}
	t.Setenv("STATE_DIRECTORY", "")
	if got := former(file); got != "none" {
		t.Error("without a folder:", got)
	}
}
