package configs

import (
	"bytes"
	"context"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce is how long a file that was put in the place of another must be left alone
	// before it is read: whoever does so has written all of it before.
	debounce = 200 * time.Millisecond

	// settle is how long one must be left alone that is written in place, since an editor,
	// a script or a copy over the network does so in several steps; and unfinished how long
	// if its last line has no end, which is then probably half a line.
	settle     = 3 * time.Second
	unfinished = 10 * time.Second

	// watchEvery is how often the file is looked at without a notification: for
	// folders that come back, network file systems, symbolic links far away, and
	// hosts whose inotify instances are used up. It costs a stat.
	watchEvery = 5 * time.Second
)

// Watch calls changed whenever the file that c was loaded from has got another
// content, until ctx ends. What happened before the call counts too. A file that
// is touched, or written with the same content, has not changed, and one that is
// away is waited for. One that is written in place is reported when it was left alone for
// 3 s, or for 10 s where its last line has no end: half of it may be a configuration too,
// with fewer rules. Passwords and certificates are not watched, since they are read anew
// whenever they are needed. changed gets what HasSum of a Config of that content takes.
func (c *Config) Watch(ctx context.Context, changed func(sum uint64)) {
	w := watcher{file: c.File, sum: c.sum, changed: changed, debounce: debounce, settle: settle, every: watchEvery}
	w.run(ctx)
}

// watcher watches the folder of a file, not the file. Editors put a new file in
// the place of the old one, and Kubernetes swaps a symbolic link on the way to it
// (..data); a watch on the file itself would stay with the old one.
type watcher struct {
	file    string
	sum     uint64      // of the content that was reported last
	seen    os.FileInfo // of the file when it was last looked at, nil if it was away
	moves   time.Time   // when it was seen to be another one, or written to
	inPlace bool        // it was written to where it is, since it was last looked into
	changed func(sum uint64)

	debounce, settle, every time.Duration

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
	quiet := time.NewTimer(w.settle) // for what happened before
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			// Another file of the folder may be written without end.
			moved, ours := w.moved(), filepath.Base(e.Name) == filepath.Base(w.file)
			w.inPlace = w.inPlace || ours && e.Has(fsnotify.Write)
			if moved || ours {
				quiet.Reset(w.pause())
			}
		case <-lost: // more events than the kernel could hold
			w.inPlace = true // perhaps
			quiet.Reset(w.pause())
		case <-poll.C:
			w.follow() // first: what changes from here on is reported
			if w.moved() {
				w.inPlace = true // perhaps: nothing told how it came
				quiet.Reset(w.pause())
			}
		case <-quiet.C:
			w.follow()
			if w.moved() || !w.look() {
				quiet.Reset(w.pause())
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

// pause is how long the file is to be left alone before it is looked into.
func (w *watcher) pause() time.Duration {
	if w.inPlace {
		return w.settle
	}
	return w.debounce
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
	other := last == nil || !os.SameFile(last, now)
	if !other && last.Size() == now.Size() && last.ModTime().Equal(now.ModTime()) {
		return false
	}
	w.inPlace, w.moves = !other, time.Now()
	return true
}

// look reads the file, and notifies if its content is another. It returns
// false if the file was written to meanwhile, or is not finished: what was read may be a
// part of it.
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
		if w.inPlace && !bytes.HasSuffix(data, []byte("\n")) && time.Since(w.moves) < unfinished {
			return false
		}
		w.sum = sum
		w.changed(sum)
	}
	w.inPlace = false
	return true
}

var sumSeed = maphash.MakeSeed()

// sumOf returns a hash that tells contents apart within this process.
func sumOf(data []byte) uint64 { return maphash.Bytes(sumSeed, data) }
