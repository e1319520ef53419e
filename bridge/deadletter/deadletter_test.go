package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, path string) (letters []Letter) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		var l Letter
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, l)
	}
	return letters
}

func TestLettersAreLinesOfJSONThatOnlyTheOwnerReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "dead-letters.jsonl")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := []Letter{
		{at, "r", "a/\"ü\"", 1, true, []byte{0, 255, '\n'}, "why"},
		{at, "r", "empty", 2, false, []byte{}, "why"},
	}
	for _, l := range want { // and over a restart
		f := Open(path, slog.Default())
		payload := bytes.Clone(l.Payload)
		l.Payload = payload
		if !f.Add(l, nil) {
			t.Error("refused")
		}
		clear(payload) // the caller's memory
		f.Close()
		if f.Add(l, nil) {
			t.Error("taken after the end")
		}
	}
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text, _ := os.ReadFile(path); !strings.Contains(string(text), `"payload":"AP8K"`) {
		t.Errorf("%s", text)
	}
}

func TestTheFileIsBoundedAndTheLatestIsInIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	f := Open(path, slog.Default())
	payload := make([]byte, 256<<10)
	const n = 110 // of 350 KB: more than two files hold
	for i := range n {
		for !f.Add(Letter{Rule: "r", Topic: strings.Repeat("t", i), Payload: payload}, nil) {
			time.Sleep(time.Millisecond)
		}
	}
	f.Close()
	for _, p := range []string{path, path + ".1"} {
		if info, err := os.Stat(p); err != nil || info.Size() > MaxFile+1<<20 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
		t.Errorf("%d files", len(entries))
	}
	letters := append(read(t, path+".1"), read(t, path)...)
	for i, l := range letters {
		if len(l.Topic) != n-len(letters)+i {
			t.Fatalf("letter %d of %d is number %d", i, len(letters), len(l.Topic))
		}
	}
}

func TestWhatWaitsForTheDiskIsBounded(t *testing.T) {
	f := &File{wake: make(chan struct{}, 1)} // nobody writes
	payload := make([]byte, 1<<20)
	n := 0
	for f.Add(Letter{Payload: payload}, nil) {
		if n++; n > 100 {
			t.Fatal("it takes all")
		}
	}
	if f.bytes > maxWaiting || n == 0 {
		t.Errorf("%d letters, %d bytes", n, f.bytes)
	}
}

func TestAFileThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	f := Open(filepath.Join(os.DevNull, "d"), slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		kept := make(chan bool)
		f.Add(Letter{Topic: "a/b"}, func() { close(kept) })
		<-kept // else whoever waits would do so for ever
	}
	f.Close()
	if n := strings.Count(log.String(), "cannot be kept, and are lost"); n != 1 || !strings.Contains(log.String(), "topic=a/b") {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

// Whoever has the message elsewhere lets it go only when the letter is safe.
func TestALetterIsOnDiskWhenThatIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "d")
	f := Open(path, slog.Default())
	for i := range 20 {
		n := make(chan int)
		if !f.Add(Letter{Topic: "a/b", Payload: []byte{byte(i)}}, func() { n <- len(read(t, path)) }) {
			t.Fatal("refused")
		}
		if got := <-n; got != i+1 {
			t.Fatalf("%d letters of %d", got, i+1)
		}
	}
	f.Close()
}

// Safe is what a power cut leaves: the file is, and its name in the folder, where it is new or
// another.
func TestALetterIsSafeFromAPowerCutWhenThatIsSaid(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	f := Open(path, slog.Default())
	defer f.Close()
	var synced []string // by the goroutine that writes
	f.sync = func(file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		switch {
		case info.IsDir():
			_, err := os.Lstat(path)
			synced = append(synced, fmt.Sprintf("folder %v", err == nil))
		case info.Size() > 0:
			synced = append(synced, "letters")
		default:
			synced = append(synced, "nothing")
		}
		return file.Sync()
	}
	folder := []string{"folder true"}
	if runtime.GOOS == "windows" {
		folder = nil
	}
	add := func(size int, want ...string) {
		t.Helper()
		kept := make(chan []string)
		if !f.Add(Letter{Payload: make([]byte, size)}, func() { kept <- synced }) {
			t.Fatal("refused")
		}
		if got := <-kept; !slices.Equal(got, want) {
			t.Errorf("synced %q, want %q", got, want)
		}
		synced = nil // nothing is written now
	}
	add(1, append([]string{"letters"}, folder...)...)
	add(1, "letters")
	for range 4 {
		add(MaxFile*3/16, "letters") // in base64 a quarter of the file
	}
	// It is put aside, and its name is not the other's for a moment.
	want := []string{"letters"}
	if folder != nil {
		want = append(want, "folder false")
	}
	add(1, append(append(want, "letters"), folder...)...)
}

// What nobody waits for is written together: flash memory takes so many writes.
func TestLettersThatNobodyWaitsForAreFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d")
		f := Open(path, slog.Default())
		f.Add(Letter{}, nil)
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := len(read(t, path)); got != 1 {
			t.Fatalf("%d letters: the first one waits", got)
		}
		for range 9 {
			time.Sleep(writePause / 10)
			f.Add(Letter{}, nil)
			synctest.Wait()
		}
		if got := len(read(t, path)); got != 1 {
			t.Errorf("%d letters before the pause is over", got)
		}
		time.Sleep(writePause / 10)
		synctest.Wait()
		if got := len(read(t, path)); got != 10 {
			t.Errorf("%d letters after it", got)
		}
		f.Add(Letter{}, nil)
		f.Close()
		if got := len(read(t, path)); got != 11 {
			t.Errorf("%d letters at the end", got)
		}
	})
}

// The power went while a letter was written: the next one is whole.
func TestALetterThatWasCutDoesNotSpoilTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	if err := os.WriteFile(path, []byte(`{"time":"2026-`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f := Open(path, slog.Default())
		f.Add(Letter{Topic: "a/b"}, nil)
		f.Close()
	}
	text, err := os.ReadFile(path)
	if lines := strings.Split(string(text), "\n"); err != nil || len(lines) != 4 || !strings.HasSuffix(lines[1], "}") || !strings.HasPrefix(lines[2], `{"time":`) {
		t.Errorf("%v: %s", err, text)
	}
}
