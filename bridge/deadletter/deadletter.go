// Package deadletter keeps in a file the messages that were given up.
package deadletter

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"topicast/internal/plainfile"
)

const (
	// MaxFile is the size in bytes from which on a new file is begun. The one before it
	// is kept, with .1 behind its name, and those before that are gone.
	MaxFile = 16 << 20

	// maxWaiting bounds the bytes of the messages that wait to be written.
	maxWaiting = 4 << 20

	// writePause is how often letters are written that nobody waits for. Each time is a
	// write to the disk, of which flash memory takes so many.
	writePause = time.Second

	closeTimeout = time.Second
)

// A Letter is a message that was given up: a line of the file, in JSON, with the payload in
// base64.
type Letter struct {
	Time    time.Time `json:"time"`
	Rule    string    `json:"rule"`
	Topic   string    `json:"topic"`
	QoS     byte      `json:"qos"`
	Retain  bool      `json:"retain,omitempty"`
	Payload []byte    `json:"payload"`
	Reason  string    `json:"reason"`
}

// A File is where letters end. It has a goroutine that writes, so that whoever gives a message
// up does not wait for the disk.
type File struct {
	path string
	log  *slog.Logger
	sync func(*os.File) error // [os.File.Sync]

	mu      sync.Mutex
	waiting []waitingLetter
	bytes   int       // of them
	written time.Time // when letters were taken to be written last
	timed   bool      // they will be in a while
	closed  bool

	wake  chan struct{}
	ended chan struct{}

	failing bool // of the goroutine: the last write failed
}

type waitingLetter struct {
	Letter
	kept func() // nil: nobody waits
}

// Open takes the file at path into use, which is made with the first letter.
func Open(path string, log *slog.Logger) *File {
	f := &File{path: path, log: log, sync: (*os.File).Sync, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go f.run()
	return f
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Add keeps a copy of a letter. It does not block; it is false where there is no room, since
// the disk is slower than messages are given up. Else kept, where not nil, is called when the
// letter is safe on disk, or when that has failed: whoever has the message elsewhere too keeps
// it until then.
func (f *File) Add(l Letter, kept func()) bool {
	l.Payload = append([]byte{}, l.Payload...) // never null
	f.mu.Lock()
	defer f.mu.Unlock()
	size := len(l.Topic) + len(l.Payload)
	if f.closed || f.bytes+size > maxWaiting {
		return false
	}
	f.waiting, f.bytes = append(f.waiting, waitingLetter{l, kept}), f.bytes+size
	switch {
	case kept != nil || f.bytes > maxWaiting/2:
		f.wakeNow()
	case !f.timed:
		f.timed = true
		time.AfterFunc(time.Until(f.written.Add(writePause)), func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.wakeNow()
		})
	}
	return true
}

// wakeNow has what waits be written. Callers hold mu.
func (f *File) wakeNow() {
	if f.closed {
		return // that does it
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits, and returns when that is done, or after a second.
func (f *File) Close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.wake)
	}
	f.mu.Unlock()
	select {
	case <-f.ended:
	case <-time.After(closeTimeout):
	}
}

func (f *File) run() {
	defer close(f.ended)
	for range f.wake {
		f.writeWaiting()
	}
	f.writeWaiting()
}

// writeWaiting writes what waits.
func (f *File) writeWaiting() {
	f.mu.Lock()
	letters := f.waiting
	f.waiting, f.timed, f.written = nil, false, time.Now()
	f.mu.Unlock()
	if len(letters) == 0 {
		return
	}
	err := f.write(letters)
	f.mu.Lock()
	for _, l := range letters {
		f.bytes -= len(l.Topic) + len(l.Payload)
	}
	f.mu.Unlock()
	for _, l := range letters {
		if l.kept != nil {
			l.kept()
		}
	}
	if err != nil && !f.failing {
		f.log.Error("messages that were given up cannot be kept, and are lost", "file", f.path, "count", len(letters), "topic", letters[0].Topic, "err", err)
	}
	f.failing = err != nil
}

// write appends letters, each whole or not at all. When it returns they are safe.
func (f *File) write(letters []waitingLetter) error {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for len(letters) > 0 {
		_, err := os.Lstat(f.path)
		begun := errors.Is(err, fs.ErrNotExist)
		file, err := plainfile.Open(f.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		n, full, err := appendTo(file, letters)
		if err := errors.Join(err, f.sync(file), file.Close()); err != nil {
			return err
		}
		letters = letters[n:]
		if full {
			if err := os.Rename(f.path, f.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if begun || full {
			if err := f.syncFolder(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncFolder has the names in a folder be safe.
func (f *File) syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // which knows no such thing
	}
	d, err := plainfile.OpenFolder(dir)
	if err != nil {
		return err
	}
	err = f.sync(d)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // nor do some file systems
	}
	return errors.Join(err, d.Close())
}

// appendTo writes letters until the file is full; n is how many.
func appendTo(file *os.File, letters []waitingLetter) (n int, full bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, false, err
	}
	size := info.Size()
	var last [1]byte
	if _, err := file.ReadAt(last[:], size-1); size > 0 && (err != nil || last[0] != '\n') {
		if err == nil {
			_, err = file.WriteString("\n") // the power went when a line was written
		}
		if err != nil {
			return 0, false, err
		}
		size++
	}
	for _, l := range letters {
		if size >= MaxFile {
			return n, true, nil
		}
		line, err := json.Marshal(l.Letter)
		if err != nil {
			return n, false, err
		}
		line = append(line, '\n')
		if _, err := file.Write(line); err != nil {
			return n, false, errors.Join(err, file.Truncate(size))
		}
		size += int64(len(line))
		n++
	}
	return n, false, nil
}
