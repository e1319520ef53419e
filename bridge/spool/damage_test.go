package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// filled makes a spool's file with queues large and small.
func filled(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 16 << 20})
	for i := range 3000 {
		s.Queue("large").Append(record(fmt.Sprint("large ", i)), nil)
		if i%300 == 0 {
			s.Queue(fmt.Sprint("small ", i%900)).Append(record(strings.Repeat("s", 10*i)), nil)
			appendNow(t, s.Queue("large"), record("one by itself"))
		}
	}
	oldest(t, s.Queue("large"), 200)
	s.Queue("large").Remove(200)
	closeNow(t, s)
	content, err := os.ReadFile(filepath.Join(dir, "spool.db"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestADamagedFileIsMovedAsideOrReadAsFarAsItIsWhole(t *testing.T) {
	whole := filled(t)
	used := bytes.TrimRight(whole, "\x00")
	replaced := 0
	const tries = 300
	for i := range tries {
		content := bytes.Clone(whole)
		at := rand.IntN(len(used))
		switch i % 4 {
		case 0:
			content = content[:at]
		case 1:
			content[at] ^= 1 << rand.IntN(8)
		case 2: // a page that was not written: zeros, or what was there before
			page := at / pageSize * pageSize
			other := rand.IntN(len(used)) / pageSize * pageSize
			copy(content[page:page+pageSize], content[other:])
		case 3:
			for j := at; j < min(at+rand.IntN(20000), len(used)); j++ {
				content[j] = byte(rand.Uint32())
			}
		}
		if useDamaged(t, content) {
			replaced++
		}
	}
	if replaced < tries/8 || replaced == tries {
		t.Errorf("%d of %d files were replaced", replaced, tries)
	}
}

// useDamaged opens a file, appends, and reads all, which has to work whatever
// is in it. It reports whether the file was replaced.
func useDamaged(t *testing.T, content []byte) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spool.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	log := &logs{}
	s, err := Open(Options{Dir: dir, MaxSize: 16 << 20, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	appendNow(t, s.Queue("large"), record("new"))
	last := ""
	for _, name := range s.Names() {
		q := s.Queue(name)
		for tries := 0; q.Len() > 0; tries++ {
			dst := make([]Record, 100)
			n, _ := q.Front(dst, 0)
			for _, r := range dst[:n] {
				if p := string(r.Payload); p != "new" && p != "one by itself" &&
					!strings.HasPrefix(p, "large ") && strings.Trim(p, "s") != "" {
					t.Fatalf("a record that never was: %q", p)
				}
			}
			if n > 0 && name == "large" {
				last = string(dst[n-1].Payload)
			}
			q.Remove(n)
			if tries > 10000 {
				t.Fatalf("queue %q never ends: %d records\n%s", name, q.Len(), log)
			}
		}
	}
	if last != "new" {
		t.Fatalf("the last record is %q\n%s", last, log)
	}
	if s.Len() != 0 || s.Bytes() != 0 {
		t.Fatalf("%d records of %d bytes left\n%s", s.Len(), s.Bytes(), log)
	}
	asides, _ := filepath.Glob(filepath.Join(dir, "spool.db.corrupt-*"))
	if len(asides) != strings.Count(log.String(), "is moved aside") && len(asides) != 1 {
		t.Fatalf("%d files aside\n%s", len(asides), log)
	}
	return len(asides) > 0
}

func TestADamagedFileIsKeptAsItWasButOnlyTheLastOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spool.db")
	for _, garbage := range []string{"first", strings.Repeat("second", 5000)} {
		if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		log := &logs{}
		s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger()})
		appendNow(t, s.Queue("rule"), record("x"))
		closeNow(t, s)
		asides, err := filepath.Glob(path + ".corrupt-*")
		if err != nil || len(asides) != 1 {
			t.Fatalf("aside: %v, %v", asides, err)
		}
		if kept, err := os.ReadFile(asides[0]); err != nil || string(kept) != garbage {
			t.Errorf("the file aside is not what was there: %v", err)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), asides[0]) {
			t.Errorf("log: %s", log)
		}
		time.Sleep(2 * time.Millisecond) // the name of the next has the time in it
	}
}

func TestAFileThatIsCutWhileItIsOpenIsReplaced(t *testing.T) {
	for _, size := range []int64{0, 5000, 40000} {
		for _, first := range []string{"append", "front"} {
			t.Run(fmt.Sprint(first, " at ", size), func(t *testing.T) {
				log := &logs{}
				s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20, Logger: log.logger()})
				q := s.Queue("rule")
				for i := range 1000 {
					q.Append(record(strings.Repeat("x", i)), nil)
				}
				appendNow(t, q, record("x"))
				if err := os.Truncate(s.path, size); err != nil {
					t.Fatal(err)
				}
				if first == "front" {
					if n, _ := q.Front(make([]Record, 1000), 0); n > 0 {
						t.Errorf("%d records of a file that is cut", n)
					}
				}
				appendNow(t, q, record("new"))
				check(t, drain(t, q, 10), "new")
				if !strings.Contains(log.String(), "somebody cut it") || !strings.Contains(log.String(), "messages=1001") {
					t.Errorf("log: %s", log)
				}
			})
		}
	}
}

// A page that cannot be read is a fault where it is mapped. What a guard makes
// of it is shown with a cut file, past the check for that.
func TestAFaultInTheMappingIsAnError(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20})
	q := s.Queue("rule")
	for range 1000 {
		q.Append(record(strings.Repeat("x", 1000)), nil)
	}
	appendNow(t, q, record("x"))
	size := s.file.size.Load()
	if err := os.Truncate(s.path, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	s.file.size.Store(0)
	if n, _ := q.Front(make([]Record, 1000), 0); n > 0 {
		t.Errorf("%d records of %d bytes of file that are gone", n, size)
	}
	appendNow(t, q, record("new"))
	check(t, drain(t, q, 10), "new")
}

// The same when the committing goroutine meets it first.
func TestAFaultInACommitIsAnError(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20})
	q := s.Queue("rule")
	for range 1000 {
		q.Append(record(strings.Repeat("x", 1000)), nil)
	}
	appendNow(t, q, record("x"))
	if err := os.Truncate(s.path, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	s.file.size.Store(0)
	appendNow(t, q, record("new"))
	check(t, drain(t, q, 10), "new")
}

func TestVerifyCountsWhatIsThere(t *testing.T) {
	content := filled(t)
	contents, err := verify(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]int{}
	for _, c := range contents.queues {
		records[c.name] = c.records
	}
	want := map[string]int{"large": 3000 + 10 - 200, "small 0": 4, "small 300": 3, "small 600": 3}
	if fmt.Sprint(records) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", records, want)
	}
}

func TestAPageThatPointsUpIsFound(t *testing.T) {
	content := filled(t)
	for page := 2; page < len(content)/pageSize; page++ {
		p := content[page*pageSize:]
		if native.Uint16(p[8:]) != kindBranch || native.Uint64(p) != uint64(page) {
			continue
		}
		looped := bytes.Clone(content)
		native.PutUint64(looped[page*pageSize+pageHeader+8:], uint64(page))
		if _, err := verify(bytes.NewReader(looped), int64(len(looped))); err != nil {
			return // pages that are free are not looked at
		}
	}
	t.Error(errors.New("no loop was found"))
}
