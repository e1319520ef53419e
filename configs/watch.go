package configs

import (
	"context"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce is how long a file must be left alone before it is read, since an
	// editor or a script writes it in several steps.
	debounce = 200 * time.Millisecond

	// watchEvery is how often the file is looked at without a notification: for
	// folders that come back, network file systems, symbolic links far away, and
	// hosts whose inotify instances are used up. It costs a stat.
	watchEvery = 5 * time.Second
)

// Watch calls changed whenever the file that c was loaded from has got another
// content, until ctx ends. What happened before the call counts too. A file that
// is touched, or written with the same content, has not changed, and one that is
// away is waited for. Passwords and certificates are not watched, since they are
// read anew whenever they are needed.
func (c *Config) Watch(ctx context.Context, changed func()) {
	w := watcher{file: c.File, sum: c.sum, changed: changed, debounce: debounce, every: watchEvery}
	w.run(ctx)
}

// watcher watches the folder of a file, not the file. Editors put a new file in
// the place of the old one, and Kubernetes swaps a symbolic link on the way to it
// (..data); a watch on the file itself would stay with the old one.
type watcher struct {
	file            string
	sum             uint64      // of the content that was reported last
	seen            os.FileInfo // of the file when it was last looked at, nil if it was away
	changed         func()
	debounce, every time.Duration

	notify  *fsnotify.Watcher // nil where the system has no more of them
	folders []string          // that notify watches
}

func (w *watcher) run(ctx context.Context) {
	var events chan fsnotify.Event // nil: never
	var lost chan error
	if notify, err := fsnotify.NewWatcher(); err == nil {
		defer notify.Close()
		w.notify, events, lost = notify, notify.Events, notify.Errors
	}
	poll := time.NewTicker(w.every)
	defer poll.Stop()
	w.follow()
	w.moved()
	quiet := time.NewTimer(w.debounce) // for what happened before
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			// Another file of the folder may be written without end.
			if w.moved() || filepath.Base(e.Name) == filepath.Base(w.file) {
				quiet.Reset(w.debounce)
			}
		case <-lost: // more events than the kernel could hold
			quiet.Reset(w.debounce)
		case <-poll.C:
			w.follow() // first: what changes from here on is reported
			if w.moved() {
				quiet.Reset(w.debounce)
			}
		case <-quiet.C:
			w.follow()
			if w.moved() || !w.look() {
				quiet.Reset(w.debounce)
			}
		}
	}
}

// follow watches the folder of the path, and the one where its symbolic links
// end. To watch a folder that is watched already costs little; it may be a new
// one of that name.
func (w *watcher) follow() {
	if w.notify == nil {
		return
	}
	wanted := []string{filepath.Dir(w.file)}
	if target, err := filepath.EvalSymlinks(w.file); err == nil && filepath.Dir(target) != wanted[0] {
		wanted = append(wanted, filepath.Dir(target))
	}
	for _, folder := range w.folders {
		if !slices.Contains(wanted, folder) {
			_ = w.notify.Remove(folder) // it may be gone
		}
	}
	for _, folder := range wanted {
		_ = w.notify.Add(folder) // else the poll must do
	}
	w.folders = wanted
}

// moved reports whether the path leads to another file, or one written to, since it
// was last asked.
func (w *watcher) moved() bool {
	last := w.seen
	now, err := os.Stat(w.file)
	if err != nil {
		w.seen = nil
		return last != nil
	}
	w.seen = now
	return last == nil || !os.SameFile(last, now) || last.Size() != now.Size() || !last.ModTime().Equal(now.ModTime())
}

// look reads the file, and notifies if its content is another. It returns
// false if the file was written to meanwhile: what was read may be a part of it.
func (w *watcher) look() bool {
	if w.seen == nil || !w.seen.Mode().IsRegular() {
		return true // away, or a pipe that would be waited for
	}
	data, err := readRegular(w.file, maxFile)
	if w.moved() {
		return false
	}
	if err != nil {
		return true // not ours to read; a change of that comes as an event
	}
	if sum := sumOf(data); sum != w.sum {
		w.sum = sum
		w.changed()
	}
	return true
}

var sumSeed = maphash.MakeSeed()

// sumOf returns a hash that tells contents apart within this process.
func sumOf(data []byte) uint64 { return maphash.Bytes(sumSeed, data) }
