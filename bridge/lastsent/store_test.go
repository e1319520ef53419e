package lastsent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const on, off = 11, 22 // fingerprints

// opened opens a store whose pauses are short, and closes it at the end of the test.
func opened(t *testing.T, o Options) *Store {
	t.Helper()
	o.pause, o.forgetWait = time.Millisecond, 20*time.Second
	s := Open(o)
	t.Cleanup(func() {
		select {
		case <-s.stopped:
		default:
			s.Close()
		}
	})
	return s
}

// send does what the bridge does for a payload that the kernel takes at once.
func (s *Store) send(e *Entry, fingerprint uint64) {
	if s.Lay(e, fingerprint) {
		s.Forget([]*Entry{e})
	}
	s.Sent(e, fingerprint)
}

// killed opens what a process that is killed now leaves behind.
func (s *Store) killed(t *testing.T, o Options) *Store {
	t.Helper()
	o.Dir = t.TempDir()
	data, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, fileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return opened(t, o)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// written waits until an entry is in the file.
func (s *Store) written(t *testing.T, e *Entry, fingerprint uint64) {
	t.Helper()
	waitFor(t, "the entry in the file", func() bool {
		known, _, err := read(s.path, s.options.boot)
		return err == nil && slices.Contains(known, record{e.key, fingerprint})
	})
}

// still opens a store without the goroutine that writes: see step.
func still(t *testing.T, o Options) *Store {
	t.Helper()
	s := open(o)
	s.late.Store(true) // nobody waits for it
	t.Cleanup(s.finish)
	return s
}

// step does what is done when some pauses have passed.
func (s *Store) step(pauses uint32) {
	s.serve()
	s.now.Add(pauses)
	s.save()
	s.late.Store(true)
}

func TestWhatWasLastSentOutlivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := opened(t, Options{Dir: dir})
	e := s.of(1)
	if e.Was(on) {
		t.Error("it is known before anything was sent")
	}
	s.send(e, off)
	s.send(e, on)
	s.send(s.of(2), off)
	s.Close()
	for range 2 { // and the next, that sends nothing
		s = opened(t, Options{Dir: dir})
		if e := s.of(1); !e.Was(on) || e.Was(off) {
			t.Error("not known after a restart")
		}
		if e := s.of(3); e.Was(on) || e.Was(off) {
			t.Error("known, though never sent")
		}
		s.Close()
	}
}

func TestWhatWasLastSentOutlivesAKill(t *testing.T) {
	s := opened(t, Options{Dir: t.TempDir()})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	if k := s.killed(t, Options{}); !k.of(1).Was(on) {
		t.Error("not known after a kill")
	}
}

// Between the two the writer may have looked, and found nothing to wait for.
func TestWhatIsSentLateIsWrittenAllTheSame(t *testing.T) {
	s := still(t, Options{Dir: t.TempDir()})
	e := s.of(1)
	s.Lay(e, on)
	s.step(9)
	s.step(9)
	s.Sent(e, on)
	s.step(9)
	if !s.killed(t, Options{}).of(1).Was(on) {
		t.Error("not in the file")
	}
}

// Were it otherwise, a retained message that became on again while topicast was
// killed would be held back, though the device has had off.
func TestNothingIsKnownOfATopicWhoseNextPayloadIsOnItsWay(t *testing.T) {
	s := opened(t, Options{Dir: t.TempDir()})
	e, other := s.of(1), s.of(2)
	s.send(e, on)
	s.send(other, on)
	s.written(t, e, on)
	s.written(t, other, on)
	if !s.Lay(e, off) {
		t.Fatal("the entry in the file is to be forgotten first")
	}
	s.Forget([]*Entry{e})
	k := s.killed(t, Options{})
	if e := k.of(1); e.Was(on) || e.Was(off) {
		t.Error("known, though nobody knows whether it was sent")
	}
	if !k.of(2).Was(on) {
		t.Error("the other topic is forgotten too")
	}
	s.Sent(e, off)
	s.written(t, e, off)
	if k := s.killed(t, Options{}); !k.of(1).Was(off) {
		t.Error("not known after it was sent")
	}
}

func TestAKillWhileARecordIsWrittenLosesThatAlone(t *testing.T) {
	s := opened(t, Options{Dir: t.TempDir()})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	for cut := range recordSize {
		f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := f.Seek(0, 2)
		_, _ = f.Write(record{2, off}.append(nil)[:cut])
		_ = f.Close()
		k := s.killed(t, Options{})
		if !k.of(1).Was(on) || k.of(2).Was(off) {
			t.Errorf("%d bytes of a record: what was there is not known", cut)
		}
		if err := os.Truncate(s.path, size); err != nil {
			t.Fatal(err)
		}
	}
}

// A file outlives the process, and the hash that it is written with must do so too.
func TestFingerprintsTellPayloadsApart(t *testing.T) {
	for dir, lasting := range map[string]bool{"": false, t.TempDir(): true} {
		s := open(Options{Dir: dir})
		if s.Fingerprint(nil) != 0 || s.Fingerprint([]byte{}) != 0 || s.Fingerprint([]byte{0}) == 0 {
			t.Error("an empty payload has no fingerprint, and others have")
		}
		if one, other := []byte("on"), []byte("on"); s.Fingerprint(one) != s.Fingerprint(other) || s.Fingerprint([]byte("on")) == s.Fingerprint([]byte("off")) {
			t.Error("equal payloads have equal fingerprints, and others have not")
		}
		const xxh64 = 0x72f9388fece07329 // of "on", by xxhsum
		if got := s.Fingerprint([]byte("on")); lasting && got != xxh64 {
			t.Errorf("the fingerprint in a file is %#x, want %#x", got, uint64(xxh64))
		}
	}
}

func TestAClearedTopicIsForgotten(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	s.send(e, 0)
	if e.Was(on) || e.Was(0) {
		t.Error("known after it was cleared")
	}
	if s.killed(t, Options{}).of(1).Was(on) {
		t.Error("known after it was cleared, and a kill")
	}
	s.Close()
	if opened(t, Options{Dir: dir}).of(1).Was(on) {
		t.Error("known after it was cleared, and a restart")
	}
}

// The kernel's writes may be lost with the power, so that an old state of the file
// comes back.
func TestAfterAPowerCutNothingIsKnown(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir, boot: "first"})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	if s.killed(t, Options{boot: "second"}).of(1).Was(on) {
		t.Error("known after a power cut")
	}
	s.Close()
	next := opened(t, Options{Dir: dir, boot: "second"})
	if !next.of(1).Was(on) {
		t.Error("not known after a reboot in good order")
	}
	if next.killed(t, Options{boot: "third"}).of(1).Was(on) {
		t.Error("known after a power cut, because the run before had ended in good order")
	}
	if k := next.killed(t, Options{boot: "second"}); !k.of(1).Was(on) {
		t.Error("not known after a kill")
	}
}

func TestWhereTheBootIsUnknownOnlyAGoodEndIsBelieved(t *testing.T) {
	if h := bootNumber(""); h != 0 {
		t.Fatal("an unknown boot has a number")
	}
	data := record{1, on}.append(header{boot: 0, records: unknown}.append(nil))
	if _, _, err := parse(data, ""); err != errReboot {
		t.Errorf("parse: %v, want %v", err, errReboot)
	}
}

func TestAWaitingPayloadKeepsItsTopicUnknown(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir})
	e, rest := s.of(1), s.of(2)
	s.send(e, on)
	s.send(rest, on)
	waiting := true
	var mu sync.Mutex
	waits := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return waiting
	}
	// on leaves, off waits, and on waits behind that.
	for _, fingerprint := range []uint64{off, on} {
		if s.Lay(e, fingerprint) {
			s.Forget([]*Entry{e})
		}
		e.Delay(&waits)
	}
	s.written(t, rest, on)
	if e.Was(on) || s.killed(t, Options{}).of(1).Was(on) {
		t.Error("known, though another payload waits")
	}
	s.Sent(e, off)
	s.Sent(e, on)
	mu.Lock()
	waiting = false
	mu.Unlock()
	if !e.Was(on) {
		t.Error("not known, though nothing waits any more")
	}
	s.written(t, e, on)
}

func TestAPayloadThatWasLostMakesItsTopicUnknown(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	if s.Lay(e, off) {
		s.Forget([]*Entry{e})
	}
	waitFor(t, "an end of the waiting for it", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.changed) == 0
	})
	if e.Was(on) || e.Was(off) {
		t.Error("known, though what the devices have is not what the broker sent last")
	}
	s.Close()
	if e := opened(t, Options{Dir: dir}).of(1); e.Was(on) || e.Was(off) {
		t.Error("the same, after a restart")
	}
}

// A topic that changes all the time must not wear out a flash disk.
func TestATopicThatKeepsChangingIsNotWritten(t *testing.T) {
	s := still(t, Options{Dir: t.TempDir()})
	e := s.of(1)
	for i := range uint64(10) {
		s.send(e, 1+i)
		s.step(1)
	}
	if size := sizeOf(t, s); size != int64(headSize) {
		t.Errorf("%d bytes were written", size-int64(headSize))
	}
	s.step(1)
	if size := sizeOf(t, s); size != int64(headSize+recordSize) {
		t.Errorf("%d bytes were written once it had rested, want one record", size-int64(headSize))
	}
	for range 10 { // the same payload again and again
		s.send(e, 10)
		s.step(2)
	}
	if size := sizeOf(t, s); size != int64(headSize+recordSize) {
		t.Errorf("%d bytes were written for what was known", size-int64(headSize))
	}
}

func sizeOf(t *testing.T, s *Store) int64 {
	t.Helper()
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestWhatIsWrittenIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(Options{Dir: dir})
	s.writer.credit = 3 * 2 * recordSize
	for key := range uint64(10) {
		s.send(s.of(key), on)
	}
	s.writer.filled = time.Now().Add(time.Minute) // nothing is earned
	s.step(2)
	if n := (sizeOf(t, s) - int64(headSize)) / recordSize; n != 3 {
		t.Errorf("%d records were written, there is credit for 3", n)
	}
	s.writer.filled = time.Now().Add(-time.Hour)
	s.step(1)
	if n := (sizeOf(t, s) - int64(headSize)) / recordSize; n != 10 {
		t.Errorf("%d records were written, after an hour", n)
	}
	s.send(s.of(10), on)
	s.finish()
	s = opened(t, Options{Dir: dir})
	for key := range uint64(11) {
		if !s.of(key).Was(on) {
			t.Errorf("topic %d is not known after an end in good order", key)
		}
	}
}

// The file is written anew when most of it is of no use any more.
func TestTheFileStaysSmall(t *testing.T) {
	s := still(t, Options{Dir: t.TempDir()})
	entries := make([]*Entry, 100)
	for i := range entries {
		entries[i] = s.of(uint64(i))
	}
	for round := range uint64(60) {
		for _, e := range entries {
			s.send(e, 1+round)
		}
		s.step(2)
	}
	if size := sizeOf(t, s); size > int64(headSize+200*recordSize+64<<10) {
		t.Errorf("the file has %d bytes for 100 topics", size)
	}
	k := s.killed(t, Options{})
	for i := range entries {
		if !k.of(uint64(i)).Was(60) {
			t.Fatalf("topic %d is not known", i)
		}
	}
}

func TestWithoutAFolderItIsKnownInMemory(t *testing.T) {
	s := Open(Options{})
	e := s.of(1)
	s.send(e, on)
	if !s.of(1).Was(on) {
		t.Error("not known")
	}
	s.Close()
}

func TestKeysAreOfAllTheirParts(t *testing.T) {
	if was := Key("a", "b"); was != 0x5fe0ba108959cbb1 {
		t.Errorf("the key is %#x: every entry of a file there is has another", was)
	}
	if Key("a", "bc") == Key("ab", "c") || Key("a", "b") == Key("a", "b", "") {
		t.Error("parts run into each other")
	}
}

// logged collects what is logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) says(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), what)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestManyTopicsCostLittle(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Options{Dir: dir})
	const topics = 100_000
	for i := range topics {
		s.send(s.of(Key("rule", fmt.Sprint("site/", i))), on)
	}
	s.Close()
	if size := sizeOf(t, s); size > 20*topics+100 {
		t.Errorf("the file has %d bytes", size)
	}
	if got := allocated(func() { s = opened(t, Options{Dir: dir}) }); got > 20<<20 {
		t.Errorf("they take %d bytes of memory", got)
	} else {
		t.Logf("%d bytes of memory", got)
	}
	for i := range topics {
		if !s.of(Key("rule", fmt.Sprint("site/", i))).Was(on) {
			t.Fatalf("topic %d is not known", i)
		}
	}
}

// of is an entry of a rule.
func (s *Store) of(key uint64) *Entry { return s.Entry(key, "rule") }

// Where there is no file, what Begin says is on its way makes nothing known, until Lay and Sent have told
// what it was.
func TestWhatHasBegunIsNotKnown(t *testing.T) {
	s := Open(Options{})
	e := s.Entry(Key("t"), "r")
	s.send(e, on)
	if !e.Was(on) || s.OnDisk() {
		t.Fatal("not known")
	}
	s.Begin(e)
	if e.Was(on) || e.Was(Untold) {
		t.Error("known while another is on its way")
	}
	s.Lay(e, off)
	if e.Was(on) || e.Was(off) {
		t.Error("known before it was sent")
	}
	s.Sent(e, off)
	if e.Was(on) || !e.Was(off) {
		t.Error("not known once it was sent")
	}
	if with := opened(t, Options{Dir: t.TempDir()}); !with.OnDisk() {
		t.Error("a store with a folder has no file")
	}
}

// What is not told, or in doubt, is known neither here nor after a restart, and keeps nothing busy.
func TestWhatIsUntoldIsNotKept(t *testing.T) {
	s := still(t, Options{Dir: t.TempDir()})
	e, other := s.Entry(Key("t"), "r"), s.Entry(Key("other"), "r")
	s.send(e, on)
	s.send(other, on)
	s.step(2)
	s.step(2)
	if e.saved.Load() != on || other.saved.Load() != on {
		t.Fatal("not written")
	}
	s.send(e, Untold)
	other.Doubt()
	s.step(2)
	s.step(2)
	if e.Was(Untold) || e.Was(on) || other.Was(on) {
		t.Error("known")
	}
	if e.saved.Load() != 0 || len(s.changed) != 0 {
		t.Errorf("%d is in the file, and %d are to be written", e.saved.Load(), len(s.changed))
	}
	s.mu.Lock()
	entered := s.enter(e) || s.enter(other)
	s.mu.Unlock()
	if entered {
		t.Error("entered in a file that is written anew")
	}
}

// A payload sent by other settings is another; none is none by all.
func TestAFingerprintIsOfTheSettingsToo(t *testing.T) {
	if By(7, on) == By(8, on) || By(7, on) == By(7, off) || By(7, 0) != 0 || By(7, Untold) != Untold || By(7, 7) <= Untold {
		t.Error(By(7, on), By(8, on), By(7, off), By(7, 0), By(7, Untold), By(7, 7))
	}
}
