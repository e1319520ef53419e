package configs

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	oldContent = oneRule
	newContent = "log: {level: debug}\n" + oneRule
)

// How often the watcher looks without being told.
const (
	seldom = time.Hour // it must be told
	often  = 100 * time.Millisecond
)

// watched runs a watcher of file, and returns its calls.
func watched(t *testing.T, file string, every time.Duration) (calls chan struct{}) {
	t.Helper()
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls = make(chan struct{}, 100)
	w := watcher{file: c.File, sum: c.sum, changed: func() { calls <- struct{}{} }, calm: 100 * time.Millisecond, every: every}
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.run(t.Context())
	}()
	t.Cleanup(func() { <-over })
	time.Sleep(2 * w.calm) // so that what the test does is not taken for what was before
	return calls
}

// put writes a file, in place if it is there.
func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told waits for one call, and that there is no other.
func told(t *testing.T, calls chan struct{}) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Fatal("not told of the change")
	}
	untold(t, calls)
}

// untold waits long enough for a call that should not come.
func untold(t *testing.T, calls chan struct{}) {
	t.Helper()
	select {
	case <-calls:
		t.Fatal("told of a change more than there was")
	case <-time.After(400 * time.Millisecond):
	}
}

func TestWatchTellsOfEveryWayToChangeAFile(t *testing.T) {
	type change func(t *testing.T, file string)
	try := func(every time.Duration, how change) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "etc")
			must(t, os.Mkdir(folder, 0o700))
			file := filepath.Join(folder, "topicast.yaml")
			put(t, file, oldContent)
			calls := watched(t, file, every)
			how(t, file)
			told(t, calls)
			put(t, file, oldContent) // and still it is watched
			told(t, calls)
		}
	}
	for name, change := range map[string]change{
		"written in place": func(t *testing.T, file string) { put(t, file, newContent) },
		"another put in its place": func(t *testing.T, file string) {
			put(t, file+".new", newContent)
			must(t, os.Rename(file+".new", file))
		},
		"the old one kept as a copy": func(t *testing.T, file string) {
			must(t, os.Rename(file, file+"~"))
			put(t, file, newContent)
		},
		"written in halves": func(t *testing.T, file string) {
			f, err := os.Create(file)
			must(t, err)
			defer f.Close()
			for part := range strings.SplitAfterSeq(newContent, " ") {
				_, err := f.WriteString(part)
				must(t, err)
				time.Sleep(30 * time.Millisecond)
			}
		},
		"removed, and put back with another content": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			time.Sleep(400 * time.Millisecond) // longer than it has to be calm
			put(t, file, newContent)
		},
	} {
		t.Run(name, try(seldom, change))
	}
	for name, change := range map[string]change{
		"its folder removed and put back": func(t *testing.T, file string) {
			must(t, os.RemoveAll(filepath.Dir(file)))
			time.Sleep(400 * time.Millisecond)
			must(t, os.Mkdir(filepath.Dir(file), 0o700))
			put(t, file, newContent)
		},
		"its folder replaced": func(t *testing.T, file string) {
			folder := filepath.Dir(file)
			must(t, os.Mkdir(folder+".new", 0o700))
			put(t, filepath.Join(folder+".new", filepath.Base(file)), newContent)
			must(t, os.Rename(folder, folder+".old"))
			must(t, os.Rename(folder+".new", folder))
		},
	} {
		t.Run(name, try(often, change))
	}
}

func TestWatchTellsOfNothingElse(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, file string){
		"nothing happens": func(*testing.T, string) {},
		"touched": func(t *testing.T, file string) {
			must(t, os.Chtimes(file, time.Now(), time.Now().Add(-time.Hour)))
		},
		"the same written anew": func(t *testing.T, file string) { put(t, file, oldContent) },
		"another file":          func(t *testing.T, file string) { put(t, file+".swp", newContent) },
		"changed and changed back": func(t *testing.T, file string) {
			put(t, file, newContent)
			put(t, file, oldContent)
		},
		"removed": func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"removed and put back": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			time.Sleep(400 * time.Millisecond)
			put(t, file, oldContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "topicast.yaml")
			put(t, file, oldContent)
			calls := watched(t, file, often)
			change(t, file)
			untold(t, calls)
		})
	}
}

// As Kubernetes does it: the file is a link through ..data, and ..data is what is
// swapped.
func TestWatchFollowsLinksThatAreSwapped(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	folder := t.TempDir()
	swap := func(to, text string) {
		must(t, os.Mkdir(filepath.Join(folder, to), 0o700))
		put(t, filepath.Join(folder, to, "topicast.yaml"), text)
		must(t, os.Symlink(to, filepath.Join(folder, "..data_tmp")))
		must(t, os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
	}
	swap("..2026_1", oldContent)
	file := filepath.Join(folder, "topicast.yaml")
	must(t, os.Symlink(filepath.Join("..data", "topicast.yaml"), file))
	calls := watched(t, file, seldom)
	swap("..2026_2", newContent)
	told(t, calls)
	must(t, os.RemoveAll(filepath.Join(folder, "..2026_1")))
	untold(t, calls)
	swap("..2026_3", oldContent)
	told(t, calls)
}

// A link to a file elsewhere, which is written in place: its own folder stays
// untouched.
func TestWatchFollowsALinkToAnotherFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	target, file := filepath.Join(t.TempDir(), "real.yaml"), filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, target, oldContent)
	must(t, os.Symlink(target, file))
	calls := watched(t, file, seldom)
	put(t, target, newContent)
	told(t, calls)
}

// Between Load and Watch there is time for a change.
func TestWatchTellsOfWhatHappenedSinceTheFileWasLoaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	c, err := Load(file, nil)
	must(t, err)
	put(t, file, newContent)
	calls := make(chan struct{}, 1)
	go c.Watch(t.Context(), func() { calls <- struct{}{} })
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Fatal("not told of the change")
	}
}

// A folder that others write to all the time hides no change.
func TestWatchIsNotHeldUpByOtherFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	calls := watched(t, file, seldom)
	put(t, file, newContent)
	deadline := time.Now().Add(10 * time.Second)
	for len(calls) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("not told of the change")
		}
		put(t, file+".log", time.Now().String())
		time.Sleep(10 * time.Millisecond)
	}
}

// A writer that begins in the moment in which the file is read has emptied it.
func TestWatchDoesNotTellOfHalfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	c, err := Load(file, nil)
	must(t, err)
	w := watcher{file: c.File, sum: c.sum, changed: func() { t.Error("told of an empty file") }}
	w.moved()
	put(t, file, "")
	if w.look() {
		t.Error("an empty file was taken for what was written")
	}
}
