package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// Overhead is what a record counts beside its key, topic and payload, in bytes:
// about what the file needs to keep it.
const Overhead = 64

// pendingMax bounds the bytes, [Overhead] included, that were appended and are
// not on disk yet.
const pendingMax = 8 << 20

// maxRecord bounds one record. It leaves room for others in what is pending.
const maxRecord = 1 << 20

// Errors of [Queue.Append] and [Open].
var (
	ErrFull    = errors.New("the spool is full")
	ErrTooLong = errors.New("the message is too long for the spool")
	ErrClosed  = errors.New("the spool is closed")
	ErrInUse   = errors.New("another process has the spool open")
)

// Options say where a spool lies and how large it may become.
type Options struct {
	Dir     string       // folder; made, for this user only, if it is not there
	MaxSize int64        // bytes of all records, Overhead included; at least 1
	Logger  *slog.Logger // nil: no log
}

// A Spool holds the queues. Its methods may be called from any goroutine.
type Spool struct {
	path    string
	maxSize int64
	log     *slog.Logger

	records, bytes atomic.Int64 // all queues, pending records included

	file file // the door to bbolt

	wake chan struct{} // holds one: look again at what follows

	mu       sync.Mutex
	queues   map[string]*Queue
	pending  batch
	spare    batch    // empty, its memory used again
	removing []*Queue // those with records to remove from disk
	closing  bool     // nothing more is taken
	ended    bool     // the committing goroutine will not look again

	trouble atomic.Pointer[error] // why the last commit failed; nil: it did not

	// Of the committing goroutine.
	failing bool     // the last commit failed
	later   []*Queue // removing from them failed

	stopped  chan struct{} // closed when the committing goroutine is done
	closeErr error         // set before stopped is closed
}

// Open opens the spool in a folder, or makes one. The caller closes it.
func Open(options Options) (*Spool, error) {
	if options.MaxSize < 1 {
		return nil, fmt.Errorf("open the spool in %s: its size limit is %d bytes; set at least 1", options.Dir, options.MaxSize)
	}
	if options.MaxSize > (math.MaxInt-slack-removeSlack)/2 {
		return nil, fmt.Errorf("open the spool in %s: this machine cannot address the file for %d bytes; set at most 512MiB", options.Dir, options.MaxSize)
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w; %s", err, openHint(err))
	}
	s := &Spool{
		path:    filepath.Join(options.Dir, "spool.db"),
		maxSize: options.MaxSize,
		log:     options.Logger,
		queues:  map[string]*Queue{},
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	if err := s.openFile(); err != nil {
		_ = s.file.close()
		return nil, fmt.Errorf("open the spool in %s: %w; %s", options.Dir, err, openHint(err))
	}
	go s.run()
	return s, nil
}

// Queue is the queue of that name, the same one for the same name. It comes to
// be on disk with its first record.
func (s *Spool) Queue(name string) *Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue(name)
}

func (s *Spool) queue(name string) *Queue {
	q := s.queues[name]
	if q == nil {
		q = &Queue{spool: s, name: name, bucket: bucketName(name)}
		s.queues[name] = q
	}
	return q
}

// Names are those of the queues that hold records, sorted. Rules that no longer
// exist are among them.
func (s *Spool) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, q := range s.queues {
		if q.Len() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Len is the number of records in all queues, with those not yet on disk.
func (s *Spool) Len() int { return int(s.records.Load()) }

// Bytes is what they hold: keys, topics, payloads, and [Overhead] for each.
func (s *Spool) Bytes() int64 { return s.bytes.Load() }

// MaxSize is the limit of Bytes. The file itself becomes at most twice as large
// and 16 MiB: pages are not always full. Empty, it becomes small again.
func (s *Spool) MaxSize() int64 { return s.maxSize }

// Err is why what is appended now would be lost: the disk does not take it. It is
// nil when the last commit was well.
func (s *Spool) Err() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Close writes what was appended to disk and closes the file. Afterwards
// nothing can be appended or read.
func (s *Spool) Close() error {
	s.mu.Lock()
	again := s.closing
	s.closing = true
	s.mu.Unlock()
	s.signal()
	<-s.stopped
	if again {
		return ErrClosed
	}
	return s.closeErr
}

// signal wakes the committing goroutine.
func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to look
	}
}
