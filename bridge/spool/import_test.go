package spool

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// oldContent is the content of a file of an earlier version.
func oldContent(t *testing.T, version int) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", fmt.Sprintf("version%d.db.gz", version)))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func oldFolder(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, oldName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What topicast with bbolt had on disk is taken over, with its ages and its order, and the
// file is removed.
func TestAFileOfVersion2IsTakenOver(t *testing.T) {
	dir := oldFolder(t, oldContent(t, 2))
	s := open(t, Options{Dir: dir, MaxSize: 16 << 20})
	if s.Err() != nil || s.Len() != 4559 {
		t.Fatal(s.Len(), s.Err())
	}
	appendNow(t, s.Queue("deep"), record("new"))
	closeNow(t, s)
	if left, _ := filepath.Glob(filepath.Join(dir, oldName+"*")); len(left) > 0 {
		t.Errorf("the old file is there: %q", left)
	}
	checkVersion2(t, dir, "", "new")
}

// checkVersion2 wants a folder to have what was in the file of version 2, once, and behind it
// others in one of its queues.
func checkVersion2(t *testing.T, dir, what string, others ...string) {
	t.Helper()
	log := &logs{}
	s := open(t, Options{Dir: dir, MaxSize: 16 << 20, Logger: log.logger()})
	defer s.Close()
	deep := drain(t, s.Queue("deep"), 1000)
	for i, r := range deep[:min(4500, len(deep))] {
		if want := fmt.Sprint("deep ", 1500+i); string(r.Payload) != want || r.Age < time.Minute || string(r.Topic) != "a/b" || r.Key != "239.1.2.3:5000" {
			t.Fatalf("%s: record %d is %+v, want %s", what, i, r, want)
		}
	}
	if len(deep) < 4500 {
		t.Fatalf("%s: %d records", what, len(deep))
	}
	check(t, deep[4500:], others...)
	for name, want := range map[string]int{"lamps": 40, "large": 1, "meters\x00received": 4, "deep2": 14} {
		if got := drain(t, s.Queue(name), 100); len(got) != want {
			t.Errorf("%s: %q: %d, want %d", what, name, len(got), want)
		}
	}
	if strings.Contains(log.String(), "damaged") {
		t.Errorf("%s: %s", what, log)
	}
}

var errKilled = errors.New("killed")

// killAfter lets a program do so many things to files, and no more.
func killAfter(n int64) (files, *atomic.Int64) {
	done := new(atomic.Int64)
	return files{fault: func(string, string) error {
		if done.Add(1) > n {
			return errKilled
		}
		return nil
	}}, done
}

// Wherever an import is cut short, by a kill or a disk, the next one loses nothing and brings
// nothing twice: in an empty folder, and in one that an earlier version was used on in between.
func TestAnImportThatIsCutShortAnywhere(t *testing.T) {
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprint("used before ", used), func(t *testing.T) {
			for n, over := int64(1), false; !over; n += 1 + n/16 {
				dir := oldFolder(t, oldContent(t, 2))
				var others []string
				if used {
					content, err := os.ReadFile(filepath.Join(dir, oldName))
					if err == nil {
						err = os.Remove(filepath.Join(dir, oldName))
					}
					if err != nil {
						t.Fatal(err)
					}
					s := open(t, Options{Dir: dir, MaxSize: 16 << 20})
					appendNow(t, s.Queue("before"), record("x"), record("y"))
					closeNow(t, s)
					if err := os.WriteFile(filepath.Join(dir, oldName), content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				some, done := killAfter(n)
				s := open(t, Options{Dir: dir, MaxSize: 16 << 20, files: some})
				closeNow(t, s)
				over = done.Load() <= n
				checkVersion2(t, dir, fmt.Sprint("after ", n), others...)
				if used {
					s := open(t, Options{Dir: dir, MaxSize: 16 << 20})
					check(t, drain(t, s.Queue("before"), 10), "x", "y")
					closeNow(t, s)
				}
			}
		})
	}
}

// Of a file of an earlier version that is damaged all comes that is not in a page that is,
// in order, and what is known to be missing is counted. The file is kept.
func TestADamagedFileOfVersion2IsTakenOverAsFarAsItIsWhole(t *testing.T) {
	whole := oldContent(t, 2)
	random := rand.New(rand.NewPCG(5, 6))
	all, tries := 0, 0
	for at := 0; at < len(whole); at += 5 * oldPage {
		content := bytes.Clone(whole)
		switch at / oldPage % 3 {
		case 0:
			content[at+random.IntN(oldPage)] ^= 1 << random.IntN(8)
		case 1:
			clear(content[at : at+oldPage])
		default:
			copy(content[at:at+oldPage], whole[random.IntN(len(whole)/oldPage)*oldPage:])
		}
		log := &logs{}
		s := open(t, Options{Dir: oldFolder(t, content), MaxSize: 16 << 20, Logger: log.logger()})
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
		n := 0
		for _, name := range s.Names() {
			last := ""
			got, lost := takeDamaged(t, name, s.Queue(name))
			n += len(got) + lost
			for _, payload := range got {
				if name == "deep" && (!strings.HasPrefix(payload, "deep ") || len(payload) < len(last) || len(payload) == len(last) && payload <= last) {
					t.Fatalf("page %d: %q comes after %q", at/oldPage, payload, last)
				}
				last = payload
			}
		}
		kept, _ := filepath.Glob(filepath.Join(s.dir, oldName+".corrupt-*"))
		if damaged := strings.Contains(log.String(), "level=ERROR"); damaged != (len(kept) == 1) {
			t.Errorf("page %d: kept %q, log: %s", at/oldPage, kept, log)
		}
		all, tries = all+n, tries+1
		closeNow(t, s)
	}
	if all < tries*4559*9/10 {
		t.Errorf("%d of %d are accounted for", all, tries*4559)
	}
}

// Records of a newer version in a file of version 2, and damaged ones, are counted, also the
// last of a queue; the file is kept, and the log says which they were.
func TestRecordsOfANewerVersionAreCounted(t *testing.T) {
	for _, c := range []struct {
		version byte
		say     string
	}{{9, "a newer version of topicast wrote some of its records"}, {0, "a record is damaged"}} {
		content := oldContent(t, 2)
		for _, payload := range []string{"deep 3000", "deep 5999"} {
			at := bytes.LastIndex(content, []byte(payload))
			start := at - oldRecordHeader - len("239.1.2.3:5000") - len("a/b")
			value := content[start : at+len(payload)]
			if at < 0 || binary.BigEndian.Uint32(value) != crc32.Checksum(value[4:], castagnoli) {
				t.Fatalf("no record of %s", payload)
			}
			value[4] = c.version
			binary.BigEndian.PutUint32(value, crc32.Checksum(value[4:], castagnoli))
		}
		log := &logs{}
		s := open(t, Options{Dir: oldFolder(t, content), MaxSize: 16 << 20, Logger: log.logger()})
		got, lost := takeDamaged(t, "deep", s.Queue("deep"))
		if len(got) != 4498 || lost != 2 {
			t.Errorf("%d are there, %d lost", len(got), lost)
		}
		kept, _ := filepath.Glob(filepath.Join(s.dir, oldName+".corrupt-*"))
		if len(kept) != 1 || !strings.Contains(log.String(), c.say) || !strings.Contains(log.String(), "lost=2") {
			t.Errorf("kept %q, log: %s", kept, log)
		}
		closeNow(t, s)
	}
}

// What a newer version wrote is kept as it is, and said; we begin our own.
func TestFilesOfANewerVersionAreKeptAsTheyAre(t *testing.T) {
	newerBolt := bytes.Clone(oldContent(t, 2))
	if at := bytes.LastIndex(newerBolt, []byte("version\x02\xfd")); at < 0 {
		t.Fatal("no version in it")
	}
	newerBolt = bytes.ReplaceAll(newerBolt, []byte("version\x02\xfd"), []byte("version\x09\xf6"))
	for name, content := range map[string][]byte{
		strings.Replace(segmentName(7, 7), ".v3", ".v4", 1): []byte("what is that"),
		oldName: newerBolt,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			log := &logs{}
			s := open(t, Options{Dir: dir, MaxSize: 1 << 20, Logger: log.logger()})
			appendNow(t, s.Queue("rule"), record("0"))
			check(t, drain(t, s.Queue("rule"), 1), "0")
			closeNow(t, s)
			if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("it has changed: %v", err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "a newer version of topicast") || !strings.Contains(got, name) {
				t.Errorf("log: %s", got)
			}
		})
	}
}

// A file that is cut, or a block that turns bad, while it is open costs what was in it,
// counted, and no more.
func TestDamageWhileItIsOpenIsCounted(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 16 << 20})
	q := s.Queue("rule")
	for i := range 1000 {
		q.Append(record(fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))), nil)
	}
	appendNow(t, q, record("last"))
	files, err := filepath.Glob(filepath.Join(s.dir, segmentPrefix+"0*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	clear(content[8192:12288])
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[1], 100_000); err != nil {
		t.Fatal(err)
	}
	appendNow(t, q, record("new"))
	got, lost := takeDamaged(t, "rule", q)
	if len(got)+lost != 1002 || lost < 380 || lost > 420 || got[len(got)-1] != "new" || got[len(got)-2] != "last" {
		t.Errorf("%d are there, %d lost", len(got), lost)
	}
	if s.Len() != 0 || s.Bytes() != 0 {
		t.Errorf("%d records of %d bytes left", s.Len(), s.Bytes())
	}
}
