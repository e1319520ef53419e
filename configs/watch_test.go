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

// watched is a watcher of a file, and what it told.
type watched struct {
	t        *testing.T
	debounce time.Duration
	calls    chan uint64 // sums of the contents that it told of

	// excess is how often more it may tell than there were changes: a pause of debounce
	// within a change makes two of it, and a busy machine makes pauses.
	excess int
}

func watch(t *testing.T, file string, every time.Duration) *watched {
	t.Helper()
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan uint64, 100)
	w := watcher{file: c.File, sum: c.sum, debounce: 100 * time.Millisecond, settle: 200 * time.Millisecond, every: every}
	w.changed = func(sum uint64) { calls <- sum }
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.run(t.Context())
	}()
	t.Cleanup(func() { <-over })
	time.Sleep(2 * w.settle) // so that what the test does is not taken for what was before
	return &watched{t: t, debounce: w.debounce, calls: calls}
}

// put writes a file, in place if it is there.
func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// put does it in one step or, where the machine has no time for it, in several.
func (w *watched) put(file, text string) {
	w.t.Helper()
	defer w.step(time.Now())
	put(w.t, file, text)
}

// step ends a step of a change that is to take less than debounce. Each time that it took
// debounce there may have been told of, and of the return to what was before.
func (w *watched) step(began time.Time) { w.excess += 2 * int(time.Since(began)/w.debounce) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told waits until it has told of a content, and that it tells no more.
func (w *watched) told(text string) {
	w.t.Helper()
	for late := time.After(10 * time.Second); ; {
		select {
		case sum := <-w.calls:
			if sum == sumOf([]byte(text)) {
				w.untold()
				return
			}
			w.tooMuch()
		case <-late:
			w.t.Fatal("not told of the change")
		}
	}
}

// untold waits long enough for a call that should not come.
func (w *watched) untold() {
	w.t.Helper()
	for enough := time.After(400 * time.Millisecond); ; {
		select {
		case <-w.calls:
			w.tooMuch()
		case <-enough:
			return
		}
	}
}

// tooMuch is a call without a change.
func (w *watched) tooMuch() {
	w.t.Helper()
	if w.excess--; w.excess < 0 {
		w.t.Fatal("told of a change more than there was")
	}
}

func TestWatchTellsOfEveryWayToChangeAFile(t *testing.T) {
	type change func(t *testing.T, w *watched, file string)
	try := func(every time.Duration, how change) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "etc")
			must(t, os.Mkdir(folder, 0o700))
			file := filepath.Join(folder, "topicast.yaml")
			put(t, file, oldContent)
			w := watch(t, file, every)
			how(t, w, file)
			w.told(newContent)
			w.put(file, oldContent) // and still it is watched
			w.told(oldContent)
		}
	}
	for name, change := range map[string]change{
		"written in place": func(_ *testing.T, w *watched, file string) { w.put(file, newContent) },
		"another put in its place": func(t *testing.T, w *watched, file string) {
			put(t, file+".new", newContent)
			must(t, os.Rename(file+".new", file))
		},
		"the old one kept as a copy": func(t *testing.T, w *watched, file string) {
			must(t, os.Rename(file, file+"~"))
			w.put(file, newContent)
		},
		"written in halves": func(t *testing.T, w *watched, file string) {
			f, err := os.Create(file)
			must(t, err)
			defer f.Close()
			last := time.Now()
			for part := range strings.SplitAfterSeq(newContent, " ") {
				began := time.Now()
				_, err := f.WriteString(part)
				must(t, err)
				w.step(last)
				last = began
				time.Sleep(30 * time.Millisecond)
			}
		},
		"removed, and put back with another content": func(t *testing.T, w *watched, file string) {
			must(t, os.Remove(file))
			time.Sleep(400 * time.Millisecond) // longer than the debounce time
			w.put(file, newContent)
		},
	} {
		t.Run(name, try(seldom, change))
	}
	for name, change := range map[string]change{
		"its folder removed and put back": func(t *testing.T, w *watched, file string) {
			must(t, os.RemoveAll(filepath.Dir(file)))
			time.Sleep(400 * time.Millisecond)
			must(t, os.Mkdir(filepath.Dir(file), 0o700))
			w.put(file, newContent)
		},
		"its folder replaced": func(t *testing.T, w *watched, file string) {
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
	for name, change := range map[string]func(t *testing.T, w *watched, file string){
		"nothing happens": func(*testing.T, *watched, string) {},
		"touched": func(t *testing.T, w *watched, file string) {
			must(t, os.Chtimes(file, time.Now(), time.Now().Add(-time.Hour)))
		},
		"the same written anew": func(_ *testing.T, w *watched, file string) { w.put(file, oldContent) },
		"another file":          func(t *testing.T, w *watched, file string) { put(t, file+".swp", newContent) },
		"changed and changed back": func(t *testing.T, w *watched, file string) {
			defer w.step(time.Now())
			put(t, file, newContent)
			put(t, file, oldContent)
		},
		"removed": func(t *testing.T, w *watched, file string) { must(t, os.Remove(file)) },
		"removed and put back": func(t *testing.T, w *watched, file string) {
			must(t, os.Remove(file))
			time.Sleep(400 * time.Millisecond)
			w.put(file, oldContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "topicast.yaml")
			put(t, file, oldContent)
			w := watch(t, file, often)
			change(t, w, file)
			w.untold()
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
	w := watch(t, file, seldom)
	swap("..2026_2", newContent)
	w.told(newContent)
	must(t, os.RemoveAll(filepath.Join(folder, "..2026_1")))
	w.untold()
	swap("..2026_3", oldContent)
	w.told(oldContent)
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
	w := watch(t, file, seldom)
	w.put(target, newContent)
	w.told(newContent)
}

// Between Load and Watch there is time for a change.
func TestWatchTellsOfWhatHappenedSinceTheFileWasLoaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	c, err := Load(file, nil)
	must(t, err)
	put(t, file, newContent)
	calls := make(chan struct{}, 1)
	go c.Watch(t.Context(), func(uint64) { calls <- struct{}{} })
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
	w := watch(t, file, seldom)
	put(t, file, newContent)
	deadline := time.Now().Add(10 * time.Second)
	for len(w.calls) == 0 {
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
	w := watcher{file: c.File, sum: c.sum, changed: func(uint64) { t.Error("told of an empty file") }}
	w.moved()
	put(t, file, "")
	if w.look() {
		t.Error("an empty file was taken for what was written")
	}
}

// A file that is written in place is left alone for longer than one that was put there
// whole, which is taken at once.
func TestWhatIsWrittenInPlaceIsWaitedForLonger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	w := watcher{file: file, debounce: debounce, settle: settle}
	w.moved()
	for _, c := range []struct {
		how    string
		change func()
		want   time.Duration
	}{
		{"written in place", func() { put(t, file, newContent) }, settle},
		{"another put in its place", func() {
			put(t, file+".new", oldContent)
			must(t, os.Rename(file+".new", file))
		}, debounce},
		{"written to after that", func() { put(t, file, newContent) }, settle},
	} {
		c.change()
		if moved, got := w.moved(), w.pause(); !moved || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.how, moved, got, c.want)
		}
	}
}

// The first part of a file may be a configuration too; it ends within a line, most of the
// time. It is given more time, and not for ever.
func TestHalfALineIsWaitedFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	told := 0
	w := watcher{file: file, sum: sumOf([]byte(oldContent)), changed: func(uint64) { told++ }}
	w.moved()
	put(t, file, "send: [{filter: a, group: '239.1.1.1:5000', interface: lo}]")
	w.moved()
	if w.look() || told != 0 {
		t.Fatal("it is taken at once")
	}
	w.moves = time.Now().Add(-unfinished)
	if !w.look() || told != 1 {
		t.Error("it is never taken")
	}
	put(t, file, newContent)
	w.moved()
	if !w.look() || told != 2 {
		t.Error("one that ends with its line is not taken")
	}
}

// A file that is written in two parts is taken once, whole.
func TestWatchTakesAFileThatIsWrittenInTwoPartsOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	put(t, file, oldContent)
	w := watch(t, file, seldom)
	first := "send:\n  - {filter: a, group: '239.1.1.1:5000', interface: lo}\n"
	whole := first + "  - {filter: b, group: '239.1.1.2:5000', interface: lo}\n"
	began := time.Now()
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	for _, part := range []string{first, whole[len(first):]} {
		_, err := f.WriteString(part)
		must(t, err)
		time.Sleep(w.debounce + w.debounce/2) // longer than what was put there whole is left alone
	}
	w.step(began.Add(3 * w.debounce))
	w.told(whole)
}
