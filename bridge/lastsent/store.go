package lastsent

import (
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Max is how many topics are remembered, a topic once for each rule that sends it:
// 20 bytes of the file and about 80 of memory each. When one more comes some are
// forgotten, of the rules that have the most (evict.go).
const Max = 1 << 17

const (
	// pause is how often the file is written to, at most, and half of how long a
	// topic must have rested to be written.
	pause = time.Second
	// retry is how long a file that cannot be written is left alone.
	retry = 30 * time.Second
	// forgetWait is how long a message may wait for the file. A disk that takes
	// longer is ill, and must not stop the messages.
	forgetWait = 100 * time.Millisecond
	// A flash disk wears out by being written to: what is written beyond budget waits
	// for its turn of rate bytes a second. That is 350 MB a day at most.
	budget = 8 << 20
	rate   = 4 << 10
)

// Options say where to remember.
type Options struct {
	Dir    string       // the folder; made, for this user only, if it is not there. "": only in memory
	Logger *slog.Logger // nil: no log

	pause, retry, forgetWait time.Duration // for tests; 0: as above
	claimTime                time.Duration // likewise
	max                      int           // likewise
	boot                     string        // likewise; "": that of the system
}

// A Store holds an entry for each topic of a rule. Lay is for one goroutine at a
// time, and so is Forget; the other methods may be called from any.
type Store struct {
	options Options
	log     *slog.Logger
	path    string        // of the file; "": there is none
	now     atomic.Uint32 // counts pauses while something is to be written
	late    atomic.Bool   // the disk has let a message wait for too long
	told    atomic.Bool   // that was logged

	wake    chan struct{} // holds one: look at what follows
	ending  sync.Once
	closing chan struct{}
	stopped chan struct{}

	mu      sync.Mutex
	entries map[uint64]*Entry
	counts  map[owner]int // of the entries
	forgets []*Entry      // to be taken off the file
	changed []*Entry      // to be written when they have rested
	reset   bool          // the file is to be written anew, as entries were forgotten
	round   chan struct{} // closed when what is asked for now is done; nil: nobody waits

	opened time.Time
	writer writer
}

// An Entry is what is known of one topic of a rule. It tells payloads apart by their
// fingerprints; 0 stands for none.
type Entry struct {
	key     uint64
	last    atomic.Uint64               // of the last one that the kernel took
	newest  atomic.Uint64               // of the last one on its way there
	saved   atomic.Uint64               // the one in the file
	backlog atomic.Pointer[func() bool] // whether something of the rule waits; nil: nothing of the topic does
	touched atomic.Uint32               // when it last changed
	flags   atomic.Uint32               // and the owner
}

const (
	listed     = 1 << iota // among changed
	forgetting             // among forgets
	detached               // no longer of the store
)

// Open reads what is in the folder. It does not fail: what cannot be kept on disk,
// or cannot be read, is logged, and then messages are sent again rather than lost.
// The caller closes the store.
func Open(o Options) *Store {
	s := open(o)
	if s.path != "" {
		go s.run()
	}
	return s
}

func open(o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.pause == 0 {
		o.pause = pause
	}
	if o.retry == 0 {
		o.retry = retry
	}
	if o.forgetWait == 0 {
		o.forgetWait = forgetWait
	}
	if o.max == 0 {
		o.max = Max
	}
	if o.claimTime == 0 {
		o.claimTime = claimTime
	}
	if o.boot == "" {
		o.boot = bootID()
	}
	s := &Store{options: o, log: o.Logger, opened: time.Now(), entries: map[uint64]*Entry{}, counts: map[owner]int{}}
	if o.Dir == "" {
		return s
	}
	s.path = filepath.Join(o.Dir, fileName)
	s.wake, s.closing, s.stopped = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	s.start()
	return s
}

// Close writes what was last sent, and waits for the disk to have it. What is sent after
// it is not in the file.
func (s *Store) Close() {
	if s.path == "" {
		return
	}
	s.ending.Do(func() { close(s.closing) })
	<-s.stopped
}

// Fingerprint tells payloads apart. An empty one has none: a topic that is cleared is
// forgotten. Without a file it is of this process alone: the runtime's hash takes half the time,
// and differs with each start.
//
// Whoever may publish on a topic could make two payloads of one fingerprint; but who may do
// that can as well say to the devices what he likes.
func (s *Store) Fingerprint(payload []byte) uint64 {
	switch {
	case len(payload) == 0:
		return 0
	case s.path == "":
		return max(maphash.Bytes(seed, payload), Untold+1)
	}
	return max(xxhash.Sum64(payload), Untold+1)
}

// Untold is the fingerprint of no payload, and not known even when it was sent: of what nobody is to
// take for the last one.
const Untold = 1

// By is the fingerprint of a payload that is sent by certain settings (Key): sent by others, it is another.
func By(settings, fingerprint uint64) uint64 {
	if fingerprint <= Untold {
		return fingerprint
	}
	return max(settings^fingerprint, Untold+1)
}

var seed = maphash.MakeSeed()

// Key is one number for several texts: for what names an entry, or for settings.
func Key(parts ...string) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, part := range parts {
		_, _ = d.WriteString(part)
		_, _ = d.Write([]byte{0xff, 0}) // no UTF-8: parts do not run into each other
	}
	return d.Sum64()
}

// Entry finds or makes an entry of a rule.
func (s *Store) Entry(key uint64, rule string) *Entry {
	of := ownerOf(rule)
	s.mu.Lock()
	e := s.entries[key]
	if e != nil {
		s.claim(e, of)
		s.mu.Unlock()
		return e
	}
	full := len(s.entries) >= s.options.max
	if full {
		s.evict()
	}
	e = &Entry{key: key}
	s.entries[key] = e
	s.counts[nobody]++
	s.claim(e, of)
	s.mu.Unlock()
	if full && s.path != "" {
		s.wait()
	}
	return e
}

// Was reports whether this was the last payload sent, with no other one on its way.
func (e *Entry) Was(fingerprint uint64) bool {
	return fingerprint > Untold && e.last.Load() == fingerprint && e.settled()
}

// settled reports whether nothing but what was last sent is on its way.
func (e *Entry) settled() bool {
	if e.last.Load() != e.newest.Load() {
		return false
	}
	return !e.waits() && e.last.Load() == e.newest.Load()
}

// waits reports whether a payload may wait. It goes by the rule, once one of the entry
// has waited.
func (e *Entry) waits() bool {
	waits := e.backlog.Load()
	if waits == nil {
		return false
	}
	if (*waits)() {
		return true
	}
	e.backlog.CompareAndSwap(waits, nil)
	return false
}

// OnDisk reports whether there is a file. Then Lay is to be told of each payload before it is sent;
// else Begin before the first of several, and Lay when the last of them was sent.
func (s *Store) OnDisk() bool { return s.path != "" }

// Begin notes, where there is no file, that payloads are about to be sent of which Lay will be told
// later: until then none is the last one sent.
func (s *Store) Begin(e *Entry) { e.newest.Store(Untold) }

// Lay notes that a payload is about to be sent. If it reports true, the entry must
// be given to Forget first.
func (s *Store) Lay(e *Entry, fingerprint uint64) (stale bool) {
	if e.newest.Load() != fingerprint {
		e.newest.Store(fingerprint) // before saved is read: see write
	}
	if s.path == "" {
		return false
	}
	saved := e.saved.Load()
	if saved == fingerprint {
		return false
	}
	s.change(e)
	return saved != 0
}

// change has an entry written when it has rested.
func (s *Store) change(e *Entry) {
	if now := s.now.Load(); e.touched.Load() != now {
		e.touched.Store(now)
	}
	if e.flags.Load()&(listed|detached) != 0 || e.flags.Or(listed)&listed != 0 {
		return
	}
	s.mu.Lock()
	s.changed = append(s.changed, e)
	first := len(s.changed) == 1
	s.mu.Unlock()
	if first {
		s.poke()
	}
}

// Delay notes that a payload of the entry has to wait before it can be sent, behind
// or before others. waits reports whether anything of its rule still waits.
func (e *Entry) Delay(waits *func() bool) { e.backlog.Store(waits) }

// Doubt notes that a payload may have left of which Lay was told: none is the last one sent then.
func (e *Entry) Doubt() { e.last.Store(Untold) }

// Sent notes that the kernel took a payload.
func (s *Store) Sent(e *Entry, fingerprint uint64) {
	if e.last.Load() != fingerprint {
		e.last.Store(fingerprint)
	}
	if e.newest.Load() == 0 {
		e.newest.CompareAndSwap(0, fingerprint)
	}
	// The writer may have looked since Lay, and found that nothing of it was to be sent.
	if s.path != "" && fingerprint != 0 && e.saved.Load() != fingerprint {
		s.change(e)
	}
}

// Forget takes entries off the file, and waits for that as long as a message may
// wait for a disk. A killed process leaves the file as it is then.
func (s *Store) Forget(entries []*Entry) {
	s.mu.Lock()
	for _, e := range entries {
		if e.flags.Or(forgetting)&forgetting == 0 {
			s.forgets = append(s.forgets, e)
		}
	}
	s.mu.Unlock()
	s.wait()
}

// wait waits until the file is as it was asked for, or for too long.
func (s *Store) wait() {
	s.mu.Lock()
	if s.round == nil {
		s.round = make(chan struct{})
	}
	round := s.round
	s.mu.Unlock()
	s.poke()
	if s.late.Load() {
		return
	}
	t := time.NewTimer(s.options.forgetWait)
	defer t.Stop()
	select {
	case <-round:
	case <-s.stopped:
	case <-t.C:
		s.late.Store(true)
		if !s.told.Swap(true) {
			s.log.Warn("the disk is too slow to take note of what is sent; messages go on, and if topicast is killed now a retained message may be held back wrongly", "file", s.path)
		}
	}
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// bootNumber stands for a boot in the file; 0 is an unknown one.
func bootNumber(id string) uint64 {
	if id == "" {
		return 0
	}
	return max(xxhash.Sum64String(id), 1)
}

// remove removes the file, so that nothing stale is read from it.
func (s *Store) remove() error {
	err := os.Remove(s.path)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
