package spool

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Overhead is what a record counts beside its key, topic and payload, in bytes:
// about what the disk needs to keep it.
const Overhead = 64

// pendingMax bounds the memory of what was appended and is not on disk yet. entryCost is what
// each takes beside what its record counts, also where it is refused: its entry, in a slice that
// has room for more, where it is on disk, and the function that tells of it.
const (
	pendingMax = 8 << 20
	entryCost  = 192
)

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
	Clock   Clock        // what ages are measured with; nil: the system's

	Stop <-chan struct{} // closed: Open waits no longer for the disk; nil: never

	files files         // what goes through them
	retry time.Duration // the first pause before the next try; 0: retryFirst
}

// A Spool holds the queues. Its methods may be called from any goroutine.
type Spool struct {
	dir     string
	maxSize int64
	files   files
	retry   time.Duration
	log     *slog.Logger

	records, bytes atomic.Int64 // all queues, pending records included
	undecided      atomic.Int64 // appended, and not told of yet
	copies         atomic.Int64 // bytes of these that do not count against maxSize

	// What lies in the folder; nil while nothing could be opened. Written by the committing
	// goroutine, which holds both mutexes for it; read with one of them.
	store *store
	swap  sync.RWMutex // held to read from files, and to remove; comes before mu
	time  *timeline
	// Another folder may have another timeline. So that what callers were told of goes
	// on to be true, they are told of times less this.
	shift atomic.Int64

	wake chan struct{} // holds one: look again at what follows

	mu       sync.Mutex
	queues   map[string]*Queue
	pending  batch
	writing  int64    // what the batch takes that is being written
	spare    batch    // empty, its memory used again
	slabs    slabs    // that no batch has
	removing []*Queue // those with records to remove from disk
	ask      bool     // something could not be read: is the disk there?
	again    bool     // and is there when that is looked for again
	doubt    doubt
	copying  int      // records that were there before and are appended again, not on disk yet
	held     []*Queue // those with records removed of which these are copies
	gone     bool     // records may be removed that were not written yet
	closing  bool     // nothing more is taken
	ended    bool     // the committing goroutine will not look again

	trouble atomic.Pointer[error] // why the spool cannot be used; nil: it can
	uses    atomic.Uint64         // how often it has come into use

	// Of the committing goroutine.
	next    time.Time     // of the next try, while it cannot be used, and of the next look
	pause   time.Duration // from one try to the next
	began   time.Time     // the last try
	last    bool          // that was the last try: the spool is closed
	opening atomic.Bool   // the disk has not answered yet
	late    atomic.Bool   // and Open has not waited for it
	removes bool          // to remove works all the same
	trying  bool          // what is to be done now needs the folder
	later   []*Queue      // removing from them failed
	marked  time.Time     // when the store was last told what time it is
	due     bool          // it is to be told, or to be looked at
	buffer  []byte        // empty, what the next commit is written from

	stopped chan struct{} // closed when the committing goroutine is done
}

// Open opens the spool in a folder, or makes one. The caller closes it. Where the
// disk does not allow it the spool is there, and empty, and [Spool.Err] tells why; it
// is tried again until it can be used; so it is with a disk that does not answer for
// openWait. An error means that it never can.
func Open(options Options) (*Spool, error) {
	if options.MaxSize < 1 {
		return nil, fmt.Errorf("open the spool in %s: its size limit is %d bytes; set at least 1", options.Dir, options.MaxSize)
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.retry == 0 {
		options.retry = retryFirst
	}
	if options.Clock == nil {
		options.Clock = newClock()
	}
	s := &Spool{
		dir:     options.Dir,
		maxSize: options.MaxSize,
		log:     options.Logger,
		time:    newTimeline(options.Clock),
		retry:   options.retry,
		files:   options.files,
		doubt:   doubt{began: time.Now()},
		queues:  map[string]*Queue{},
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	s.files.log = s.log
	s.trouble.Store(&errSilent)
	s.opening.Store(true)
	opened := make(chan struct{})
	go func() {
		s.openFirst()
		close(opened)
		s.run()
	}()
	silent := time.NewTimer(openWait)
	defer silent.Stop()
	select {
	case <-opened:
		return s, nil
	case <-options.Stop:
		s.late.Store(true)
	case <-silent.C:
		s.late.Store(true)
		s.log.Error("the spool's disk does not answer, and is waited for; what cannot go on waits in memory, unacknowledged", "dir", s.dir)
	}
	return s, nil
}

// openWait is how long Open waits for a disk that hangs.
const openWait = 30 * time.Second

var errSilent = errors.New("the disk does not answer; look at its health, or name another folder")

// openFirst opens what is in the folder.
func (s *Spool) openFirst() {
	s.began = time.Now()
	err := s.openStore(new(batch))
	s.shift.Store(0) // nobody was told of anything yet
	err = cmp.Or(err, s.diskTrouble())
	s.next = time.Now().Add(lookEvery)
	s.opening.Store(false)
	if !s.late.Load() {
		s.trouble.Store(nil)
	}
	s.noteOutcome(err)
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
		q = &Queue{spool: s, name: name}
		s.queues[name] = q
	}
	return q
}

// shifted is by how much the timeline of the store is ahead of what callers know.
func (s *Spool) shifted() time.Duration { return time.Duration(s.shift.Load()) }

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

// Undecided is how many records were appended that are neither on disk nor refused yet.
func (s *Spool) Undecided() int { return int(s.undecided.Load()) }

// MaxSize is the limit of Bytes. What is on disk takes twice as much at most, and a tenth
// and 16 MiB: room is given back when all in a file is removed, or most of it.
func (s *Spool) MaxSize() int64 { return s.maxSize }

// Copies adds to the bytes in the spool that do not count against MaxSize, and returns
// how many those are. It is for records of messages that the caller has elsewhere too:
// they are not to take the room of those that nobody else has. They should be no more
// than half of MaxSize, for what is on disk is bounded.
func (s *Spool) Copies(more int64) int64 { return s.copies.Add(more) }

// Uses is how often the spool has come into use: at Open, and when what kept it from
// that was over. Then it may hold other queues than before.
func (s *Spool) Uses() uint64 { return s.uses.Load() }

// Err is why the spool cannot be used now, so that Append takes nothing, and what to
// do about it. What it holds may be there to read all the same.
func (s *Spool) Err() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Close writes what was appended to disk and closes it. Afterwards
// nothing can be appended or read.
func (s *Spool) Close() error {
	s.mu.Lock()
	again := s.closing
	s.closing = true
	s.mu.Unlock()
	s.signal()
	if s.opening.Load() {
		return errSilent // there is nothing to write
	}
	<-s.stopped
	if again {
		return ErrClosed
	}
	return nil
}

// signal wakes the committing goroutine.
func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to look
	}
}
