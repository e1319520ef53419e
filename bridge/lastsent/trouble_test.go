package lastsent

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// allocated is how much more memory is in use after f.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Whatever happens to a file, nothing is taken from it that was not written.
func TestADamagedFileIsNotBelieved(t *testing.T) {
	for _, clean := range []bool{true, false} {
		records := uint64(unknown)
		if clean {
			records = 2
		}
		good := record{2, off}.append(record{1, on}.append(header{boot: bootNumber("boot"), records: records}.append(nil)))
		if known, _, err := parse(good, "boot"); err != nil || len(known) != 2 {
			t.Fatalf("the good one: %v, %v", known, err)
		}
		for i := range good {
			for _, flip := range []byte{1, 0x80, 0xff} {
				bad := append([]byte(nil), good...)
				bad[i] ^= flip
				if known, _, err := parse(bad, "boot"); err == nil || len(known) > 0 {
					t.Errorf("clean %v, byte %d: %v, %v", clean, i, known, err)
				}
			}
		}
		if !clean {
			continue
		}
		for n := range good {
			if known, _, err := parse(good[:n], "boot"); err == nil || len(known) > 0 {
				t.Errorf("cut to %d bytes: %v, %v", n, known, err)
			}
		}
	}
}

func TestAFileThatCannotBeReadIsToldAndReplaced(t *testing.T) {
	for what, c := range map[string]struct{ content, says string }{
		"damaged":         {"topicast last sent, version 1\nrubbish", "disk's health"},
		"another version": {"topicast last sent, version 2\nwhatever", "another version"},
		"empty":           {"", "disk's health"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		var l logged
		s := opened(t, Options{Dir: dir, Logger: l.logger()})
		if !l.says(c.says) || !l.says("retained messages are sent again") || !l.says(path) {
			t.Errorf("%s: the log says %q", what, l.buf.String())
		}
		s.send(s.of(1), on)
		s.Close()
		if !opened(t, Options{Dir: dir}).of(1).Was(on) {
			t.Errorf("%s: the next start does not know what this one has sent", what)
		}
	}
}

func TestOneFolderIsOneProcesss(t *testing.T) {
	dir := t.TempDir()
	first := opened(t, Options{Dir: dir})
	a := first.of(1)
	first.send(a, on)
	first.written(t, a, on)
	var l logged
	second := opened(t, Options{Dir: dir, Logger: l.logger(), retry: time.Millisecond})
	if !l.says("another process has it") {
		t.Errorf("the log says %q", l.buf.String())
	}
	b := second.of(1)
	if b.Was(on) {
		t.Error("the second process goes by the file of the first")
	}
	second.send(b, off)
	if !second.of(1).Was(off) {
		t.Error("the second process does not know what it has sent")
	}
	if k := first.killed(t, Options{}); !k.of(1).Was(on) {
		t.Error("the second process has written to the file of the first")
	}
	first.Close()
	waitFor(t, "the second process to have the file", func() bool { return l.says("kept on disk again") })
	if !l.says("kept on disk again") {
		t.Errorf("the log says %q", l.buf.String())
	}
	if k := second.killed(t, Options{}); !k.of(1).Was(off) {
		t.Error("the file is not the second process's now")
	}
}

func TestAFolderThatCannotBeUsedIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in its place
		t.Fatal(err)
	}
	var l logged
	s := opened(t, Options{Dir: dir, Logger: l.logger(), retry: time.Millisecond})
	e := s.of(1)
	s.send(e, on)
	if !l.says("cannot keep on disk what was last sent") || !e.Was(on) {
		t.Errorf("known %v; the log says %q", e.Was(on), l.buf.String())
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	s.written(t, e, on)
	if !s.killed(t, Options{}).of(1).Was(on) {
		t.Error("not known after a kill")
	}
}

// A file that can be read and not be written would be believed at each start, whatever
// was sent since.
func TestAFileThatCannotBeReplacedIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir})
	s.send(s.of(1), on)
	s.Close()
	if err := os.MkdirAll(filepath.Join(dir, fileName+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var l logged
	s = opened(t, Options{Dir: dir, Logger: l.logger()})
	if s.of(1).Was(on) || !l.says("cannot keep on disk") {
		t.Errorf("known: %v; the log says %q", s.of(1).Was(on), l.buf.String())
	}
	if _, err := os.Stat(s.path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestAFileThatIsInTheWayIsNamed(t *testing.T) {
	var l logged
	s := opened(t, Options{Dir: t.TempDir(), Logger: l.logger(), max: 1, retry: time.Millisecond})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.path, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	e = s.of(2) // and all is written anew
	s.send(e, on)
	waitFor(t, "the log", func() bool { return l.says("cannot be removed; remove it") })
	if !e.Was(on) {
		t.Error("not known in memory")
	}
	again := s.now.Load() + 20
	waitFor(t, "more tries", func() bool { return s.now.Load() >= again })
	if n := l.count("cannot be removed; remove it"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := os.Remove(filepath.Join(s.path, "more")); err != nil { // and what can be removed then is
		t.Fatal(err)
	}
	s.written(t, e, on)
	if !s.killed(t, Options{}).of(2).Was(on) {
		t.Error("not known after a kill")
	}
}

func TestAFolderThatIsRemovedIsMadeAgainAtTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(Options{Dir: dir}) // without its goroutine, which would make the folder again while it is removed
	s.late.Store(true)
	s.send(s.of(1), on)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.finish()
	if !opened(t, Options{Dir: dir}).of(1).Was(on) {
		t.Error("not known after a restart")
	}
}

func TestADiskThatHangsDoesNotStopTheMessages(t *testing.T) {
	var l logged
	s := still(t, Options{Dir: t.TempDir(), Logger: l.logger(), forgetWait: time.Millisecond})
	e := s.of(1)
	s.send(e, on)
	s.step(2)
	s.late.Store(false)
	for i := range 3 { // with nobody at work on the file
		if !s.Lay(e, uint64(100+i)) {
			t.Fatal("the entry is not in the file")
		}
		s.Forget([]*Entry{e})
	}
	if !l.says("the disk is too slow") || !s.late.Load() {
		t.Errorf("the log says %q", l.buf.String())
	}
	if len(s.forgets) != 1 {
		t.Errorf("%d entries are to be forgotten, want one", len(s.forgets))
	}
	s.step(0) // it has woken up
	if s.killed(t, Options{}).of(1).Was(on) {
		t.Error("the file still says what is no longer so")
	}
}

// A payload that is laid ready while its entry is entered makes the entry stale, or it
// is not entered.
func TestOfEnterAndLayOneSeesTheOther(t *testing.T) {
	s := open(Options{})
	s.path = "somewhere"
	s.late.Store(true)
	e := &Entry{}
	e.flags.Store(listed)
	var round, done atomic.Uint64
	var stale atomic.Bool
	const rounds = 200_000
	go func() {
		for i := uint64(1); i <= rounds; i++ {
			for round.Load() < i {
				runtime.Gosched()
			}
			stale.Store(s.Lay(e, off))
			done.Store(i)
		}
	}()
	for i := uint64(1); i <= rounds; i++ {
		e.last.Store(on)
		e.newest.Store(on)
		e.saved.Store(0)
		round.Store(i)
		entered := s.enter(e)
		for done.Load() < i {
			runtime.Gosched()
		}
		if entered && !stale.Load() {
			t.Fatal("the file would say on, and off goes out")
		}
	}
}

// While messages go out, whatever moment a kill chooses, the file names no payload
// that is not the last one sent.
func TestAtNoMomentDoesTheFileSayWhatIsNotSo(t *testing.T) {
	s := opened(t, Options{Dir: t.TempDir(), max: 10})
	const topics = 3
	var state [topics]atomic.Uint64 // what may be in the file, and whether nothing must be, but what comes next
	done := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	defer close(done)
	work.Go(func() {
		for fingerprint := uint64(1); ; fingerprint++ {
			select {
			case <-done:
				return
			default:
			}
			key := fingerprint % topics
			e := s.of(key)
			if s.Lay(e, fingerprint) {
				s.Forget([]*Entry{e})
			}
			state[key].Store(fingerprint) // from here on the kernel may have it
			s.Sent(e, fingerprint)
			if fingerprint%7 == 0 {
				time.Sleep(5 * time.Millisecond) // time to rest
			}
			if fingerprint%50 == 0 {
				for other := range uint64(20) {
					s.of(100 + other) // all are forgotten
				}
			}
		}
	})
	held := 0
	for end := time.Now().Add(20 * time.Second); held < 2000 && time.Now().Before(end); {
		var before [topics]uint64
		for key := range before {
			before[key] = state[key].Load()
		}
		known, _, err := read(s.path, s.options.boot)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range known {
			if r.key < topics && state[r.key].Load() == before[r.key] {
				held++
				if r.fingerprint != before[r.key] && r.fingerprint != 0 {
					t.Fatalf("the file says %d of topic %d, and %d is on its way or sent", r.fingerprint, r.key, before[r.key])
				}
			}
		}
	}
	if held < 10 {
		t.Fatalf("only %d looks found something", held)
	}
	if s.told.Load() {
		t.Log("the disk was slow: messages have not waited for it")
	}
}
