package configs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"topicast/configs/syntax"
	"topicast/internal/plainfile"
	"topicast/mapping"
)

// The last good configuration is a copy of the file as it last was when it could
// be loaded. A gateway whose file is spoilt (an edit that nobody checked, a disk
// that was full) starts with it instead of not at all.
//
// The copy is one file, in the state folder: a line that says of which file it is
// the content, and the content. It holds what the file holds, secrets too, so only
// the user that topicast runs as can read it.
const (
	lastGoodName = "last-good-configuration"
	lastGoodHead = "topicast last good configuration, version 1, of "
)

// LastGood is where and when the configuration was kept that was loaded instead of
// a file with faults.
type LastGood struct {
	Path string
	At   time.Time
}

// Keep writes the content that c was loaded from into the folder dir, for
// LoadLastGood. It makes the folder if need be, and writes nothing where that
// content is there already, which spares an SD card. It must be called before
// Release.
func (c *Config) Keep(dir string) error {
	file, err := filepath.Abs(c.File)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(c.content)
	kept := append([]byte(lastGoodHead+strconv.Quote(file)+", sha256 "+hex.EncodeToString(sum[:])+"\n"), c.content...)
	path := filepath.Join(dir, lastGoodName)
	if is, err := readRegular(path, maxFile+1<<10); err == nil && bytes.Equal(is, kept) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeWhole(path, kept)
}

// Former is the table of the last good configuration, which the process before had, where its content is
// another than that of c; nil: it is not known, or the same. It must be called before Keep and Release.
func (c *Config) Former(flags *pflag.FlagSet) *mapping.Table {
	dir := c.StateDir()
	file, err := filepath.Abs(c.File)
	if dir == "" || err != nil {
		return nil
	}
	of, content, err := readLastGood(filepath.Join(dir, lastGoodName))
	if err != nil || of != file || bytes.Equal(content, c.content) {
		return nil
	}
	was, err := load(c.File, content, flags)
	if err != nil {
		return nil // it is of a version that knew other keys
	}
	return was.Table
}

// writeWhole writes a file that is there whole or not at all, whenever the power
// goes.
func writeWhole(path string, data []byte) (err error) {
	fresh := path + ".new"                                                      // one name, so that no crash leaves many
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // with its mode
		return err
	}
	f, err := plainfile.OpenOwn(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(fresh)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(fresh, path); err != nil {
		return err
	}
	if d, err := plainfile.OpenFolder(filepath.Dir(path)); err == nil {
		_ = d.Sync() // not every system can; then the old copy may come back, which is a good one too
		_ = d.Close()
	}
	return nil
}

// LoadLastGood loads what Keep has kept of a file that Load has refused; file and
// flags are those of Load. The Config has the name of the original, so that files
// named in it are looked for where they were, and Watch calls as soon as the
// original can be read, whatever its content.
//
// The state folder is the one that systemd gives, else spool.dir of the flag, of
// the variable or of as much of the file as can be read. Where nothing was kept of
// this file, the error is fs.ErrNotExist.
func LoadLastGood(file string, flags *pflag.FlagSet) (*Config, LastGood, error) {
	var wanted []string // any of these files
	if found, _ := find(file, searchPath); found != "" {
		wanted = []string{found}
	} else {
		wanted = slices.Clone(searchPath)
	}
	written := slices.Clone(wanted)
	for i, w := range wanted {
		abs, err := filepath.Abs(w)
		if err != nil {
			return nil, LastGood{}, err
		}
		wanted[i] = abs
	}
	dir := cmp.Or(stateDirectory(), spoolDirOf(wanted[0], flags))
	if dir == "" {
		return nil, LastGood{}, fs.ErrNotExist
	}
	good := LastGood{Path: filepath.Join(dir, lastGoodName)}
	of, content, err := readLastGood(good.Path)
	if err != nil {
		return nil, good, err
	}
	i := slices.Index(wanted, of)
	if i < 0 {
		return nil, good, fmt.Errorf("%s: it is a copy of %s: %w", good.Path, of, fs.ErrNotExist)
	}
	if info, err := os.Stat(good.Path); err == nil {
		good.At = info.ModTime()
	}
	// By the name that the faults have: a reload that finds the same ones is no news.
	file = written[i]
	c, err := load(file, content, flags)
	if err != nil {
		return nil, good, inCopy(err, file, good.Path)
	}
	c.sum = 0 // of no content
	return c, good, nil
}

// inCopy moves the faults of a file to where its copy has them.
func inCopy(err error, file, copied string) error {
	var faults Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			if f.Origin == file {
				f.Origin = copied
				if f.Line > 0 {
					f.Line++ // for the head
				}
			}
		}
	}
	return err
}

// readLastGood reads a copy and the name of the file that it is of.
func readLastGood(path string) (of string, content []byte, err error) {
	data, err := readRegular(path, maxFile+1<<10)
	if err != nil {
		return "", nil, err
	}
	head, content, _ := bytes.Cut(data, []byte("\n"))
	rest, known := strings.CutPrefix(string(head), lastGoodHead)
	const before = ", sha256 "
	i := max(strings.LastIndex(rest, before), 0) // the last: the name may hold these words
	quoted, sum := rest[:i], strings.TrimPrefix(rest[i:], before)
	if of, err = strconv.Unquote(quoted); !known || err != nil {
		return "", nil, fmt.Errorf("%s: it is no last good configuration of this version", path)
	}
	if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != sum {
		return "", nil, fmt.Errorf("%s: its content is not what was written", path)
	}
	return of, content, nil
}

// spoolDirOf returns spool.dir where the file as a whole cannot be loaded.
func spoolDirOf(file string, flags *pflag.FlagSet) string {
	f := schema().field("spool").section.field("dir")
	if flags != nil {
		if flag := flags.Lookup(f.flag()); flag != nil && flag.Changed {
			return flag.Value.String()
		}
	}
	if dir := os.Getenv(f.env()); dir != "" {
		return dir
	}
	data, err := readRegular(file, maxFile)
	if err != nil {
		return ""
	}
	root, broken := parse(file, data)
	if broken != nil && broken.At.Line > 1 {
		// What stands above the fault may be good by itself.
		rows := bytes.SplitAfter(data, []byte("\n"))
		root, broken = parse(file, bytes.Join(rows[:min(int(broken.At.Line)-1, len(rows))], nil))
	}
	section := root.Entry("spool")
	if broken != nil || section == nil {
		return ""
	}
	dir := section.Value.Entry("dir")
	if dir == nil || dir.Value.Kind != syntax.Text || dir.Value.Text == "" {
		return ""
	}
	if filepath.IsAbs(dir.Value.Text) {
		return dir.Value.Text
	}
	return filepath.Join(filepath.Dir(file), dir.Value.Text)
}
