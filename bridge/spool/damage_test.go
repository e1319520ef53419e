package spool

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// A sample is a folder with a spool of several queues, which are drained more and less, as a
// kill leaves it.
type sample struct {
	files map[string][]byte
	older map[string][]byte            // before anything was removed
	left  map[string][]string          // the payloads of each queue that are not removed
	where map[string]map[string][2]int // of each: from where to where in which file
}

func newSample(t *testing.T) *sample {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 8 << 20})
	p := &sample{left: map[string][]string{}, where: map[string]map[string][2]int{}}
	for i := range 1200 {
		name := fmt.Sprint("rule ", random.IntN(5))
		size := random.IntN(2000)
		if i%200 == 0 {
			size = 100_000 + random.IntN(200_000)
		}
		payload := fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
		appendNow(t, s.Queue(name), record(payload))
		p.left[name] = append(p.left[name], payload)
	}
	p.older = contents(t, dir)
	for i, name := range s.Names() {
		n := len(oldest(t, s.Queue(name), 20*i))
		s.Queue(name).Remove(n)
		p.left[name] = p.left[name][n:]
	}
	waitFor(t, "the removals", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range s.store.queues {
			if d.noted != d.head {
				return false
			}
		}
		return len(s.removing) == 0
	})
	p.files = contents(t, dir)
	for file, content := range p.files {
		_, salt, _, ok := parseSegment(file)
		if !ok {
			continue
		}
		p.where[file] = map[string][2]int{}
		r := &reader{size: int64(len(content)), salt: salt, buffer: content}
		r.each(func(at int64, f *frame) { p.where[file][string(f.payload)] = [2]int{int(at), int(at) + f.length} })
	}
	return p
}

// contents are those of the files in a folder.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string][]byte{}
	for _, e := range entries {
		if of[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return of
}

// with is the folder with one file that has other content.
func (p *sample) with(t *testing.T, file string, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, c := range p.files {
		if name == file {
			c = content
		}
		if err := os.WriteFile(filepath.Join(dir, name), c, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A damage is what a disk does to a block, and how far it reaches.
var damages = map[string]func(content []byte, at, end int, random *rand.Rand) (damaged []byte, to int){
	"a bit": func(c []byte, at, end int, random *rand.Rand) ([]byte, int) {
		c[at+random.IntN(end-at)] ^= 1 << random.IntN(8)
		return c, end
	},
	"zeros": func(c []byte, at, end int, _ *rand.Rand) ([]byte, int) {
		clear(c[at:end])
		return c, end
	},
	"torn": func(c []byte, at, end int, random *rand.Rand) ([]byte, int) { // what another block has, or had
		from := random.IntN(max(len(c)/4096, 1)) * 4096
		copy(c[at+(end-at)/2:end], bytes.Clone(c[from:]))
		return c, end
	},
	"cut": func(c []byte, at, _ int, _ *rand.Rand) ([]byte, int) { return c[:at], len(c) },
}

// eachDamage has the test below try each damage for each block, about 3,000, and not one of
// them in turn for about every second.
var eachDamage = os.Getenv("SPOOL_EACH_DAMAGE") != ""

// Each block of each file of a spool is damaged, in four ways: what is not in it is all
// there, in order, nothing else is, and what is lost is counted. The log says it once.
func TestWhatIsOutsideADamageIsThereAndTheRestIsCounted(t *testing.T) {
	const atOnce = 8 // most of the time goes into waiting for the disk
	p := newSample(t)
	ways := slices.Sorted(maps.Keys(damages))
	var tries, lossy atomic.Int64
	t.Run("all", func(t *testing.T) {
		for part := range atOnce {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(3, uint64(part)))
				i := 0
				for _, file := range slices.Sorted(maps.Keys(p.files)) {
					for at := 0; at < len(p.files[file]); at += 4096 {
						for j, how := range ways {
							if i++; i%atOnce != part || !eachDamage && (at/4096)%(2*len(ways)+1) != 2*j {
								continue
							}
							end := min(at+4096, len(p.files[file]))
							content, to := damages[how](bytes.Clone(p.files[file]), at, end, random)
							tries.Add(1)
							if p.use(t, fmt.Sprint(file, " at ", at, ": ", how), p.with(t, file, content), file, at, to) {
								lossy.Add(1)
							}
						}
					}
				}
			})
		}
	})
	if lossy.Load() < tries.Load()/2 {
		t.Errorf("%d of %d damages cost anything", lossy.Load(), tries.Load())
	}
	t.Logf("%d damaged files, %d with losses", tries.Load(), lossy.Load())
}

// use takes all that is in a damaged folder. It reports whether anything was lost.
func (p *sample) use(t *testing.T, what, dir, file string, at, to int) bool {
	t.Helper()
	log := &logs{}
	s := open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger()})
	defer s.Close()
	any := false
	for name, left := range p.left {
		q := s.Queue(name)
		appendNow(t, q, record("new"))
		got, lost := takeDamaged(t, what, q)
		for _, payload := range append(slices.Clone(left), "new") {
			if len(got) > 0 && got[0] == payload {
				got = got[1:]
				continue
			}
			lost, any = lost-1, true
			if is, here := p.where[file][payload]; !here || is[0] >= to || is[1] <= at {
				t.Fatalf("%s: %s: %.20q is lost, which is outside", what, name, payload)
			}
		}
		if len(got) > 0 {
			t.Fatalf("%s: %s: garbage, or not in order: %.20q", what, name, got[0])
		}
		if lost != 0 {
			t.Fatalf("%s: %s: counted %d more than lost\n%s", what, name, lost, log)
		}
	}
	if s.Len() != 0 || s.Bytes() != 0 {
		t.Fatalf("%s: %d records of %d bytes left", what, s.Len(), s.Bytes())
	}
	if n := strings.Count(log.String(), "level=ERROR"); n > 1 || any && n != 1 {
		t.Fatalf("%s: log: %s", what, log)
	}
	return any
}

// takeDamaged takes all of a queue, and returns the payloads, and how many count as lost.
func takeDamaged(t *testing.T, what string, q *Queue) (got []string, lost int) {
	t.Helper()
	dst := make([]Record, 100)
	for q.Len() > 0 {
		n, l := q.Front(dst, 0)
		if n == 0 && l == (Lost{}) {
			t.Fatalf("%s: %d records are there and none comes", what, q.Len())
		}
		for _, r := range dst[:n] {
			got = append(got, string(r.Payload))
		}
		lost += l.Damaged
		q.Remove(n)
	}
	return got, lost
}

// All records are gone, and one of the two files of states with them, which is written anew at
// once: what is lost is told of all the same, also if it is not before the next start.
func TestWhatIsGoneIsToldOfThoughTheStateIsWrittenAnew(t *testing.T) {
	for _, gone := range []string{"spool-state-a.v3", "spool-state-b.v3"} {
		t.Run(gone, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir, MaxSize: 8 << 20})
			for range 5 {
				appendNow(t, s.Queue("rule"), record("x"))
			}
			closeNow(t, s)
			segments, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"0*"))
			if err != nil || len(segments) == 0 {
				t.Fatal(segments, err)
			}
			for _, path := range append(segments, filepath.Join(dir, gone)) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			closeNow(t, open(t, Options{Dir: dir, MaxSize: 8 << 20}))
			s = open(t, Options{Dir: dir, MaxSize: 8 << 20})
			if got, lost := takeDamaged(t, gone, s.Queue("rule")); len(got) > 0 || lost != 5 {
				t.Errorf("%q came, and %d are lost, want 5", got, lost)
			}
			appendNow(t, s.Queue("rule"), record("next"))
			if got := oldest(t, s.Queue("rule"), 1); len(got) != 1 {
				t.Errorf("%q", got)
			}
		})
	}
}

// A mishap is what befalls a whole folder: by a backup that is put back in part, a copy, somebody
// who tidies up.
var mishaps = map[string]struct {
	do func(p *sample, dir string) error
	// what follows from it, where that is more than that what is lost is counted
	none  bool // nothing is lost
	twice bool // what was removed comes again: nothing says that it was
}{
	"two segments swapped": {do: func(p *sample, dir string) error {
		a, b := p.segment(dir, 0), p.segment(dir, 1)
		return errors.Join(os.Rename(a, a+"x"), os.Rename(b, a), os.Rename(a+"x", b))
	}},
	"a segment copied under a later number": {none: true, do: func(p *sample, dir string) error {
		_, salt, _, _ := parseSegment(filepath.Base(p.segment(dir, 0)))
		return duplicate(filepath.Join(dir, segmentName(1000, salt)), p.segment(dir, 0))
	}},
	"a segment copied under an earlier number": {do: func(p *sample, dir string) error {
		_, salt, _, _ := parseSegment(filepath.Base(p.segment(dir, 2)))
		return duplicate(filepath.Join(dir, segmentName(0, salt)), p.segment(dir, 2))
	}},
	"a segment copied under another name": {none: true, do: func(p *sample, dir string) error {
		return duplicate(filepath.Join(dir, segmentName(1000, 1)), p.segment(dir, 0))
	}},
	"a segment copied under a name that only reads the same": {none: true, do: func(p *sample, dir string) error {
		g := p.segment(dir, 0)
		return errors.Join(duplicate(strings.TrimSuffix(g, "3")+"03", g), duplicate(filepath.Join(dir, strings.ToUpper(filepath.Base(g))), g))
	}},
	"the last number that there is": {none: true, do: func(p *sample, dir string) error {
		return os.WriteFile(filepath.Join(dir, segmentName(math.MaxUint64, 1)), []byte("x"), 0o600)
	}},
	"files of other versions": {none: true, do: func(p *sample, dir string) error {
		g := strings.TrimSuffix(p.segment(dir, 0), "3")
		return errors.Join(duplicate(g+"2", g+"3"), duplicate(g+"4", g+"3"))
	}},
	"a segment is empty": {do: func(p *sample, dir string) error { return os.Truncate(p.segment(dir, 1), 0) }},
	"all files are empty": {do: func(p *sample, dir string) error {
		var err error
		for _, path := range all(dir, "spool-*") {
			if path != statePath(dir, 1) {
				err = errors.Join(err, os.Truncate(path, 0))
			}
		}
		return err
	}},
	"all files are cut in half": {do: func(p *sample, dir string) error {
		var err error
		for _, path := range all(dir, "spool-*") {
			if path != statePath(dir, 1) {
				err = errors.Join(err, os.Truncate(path, int64(len(p.files[filepath.Base(path)])/2)))
			}
		}
		return err
	}},
	"a sparse end of 1 TB at each segment": {none: true, do: func(p *sample, dir string) error {
		err := errors.Join(os.Truncate(statePath(dir, 0), 64<<20), os.Truncate(statePath(dir, 1), 64<<20))
		for _, path := range all(dir, "spool-0*") {
			err = errors.Join(err, os.Truncate(path, 1<<40))
		}
		return err
	}},
	"a file with nearly the name of an old one that is being taken over": {none: true, do: func(p *sample, dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, takingPrefix+"0.bak"), nil, 0o600), os.WriteFile(filepath.Join(dir, takingPrefix), nil, 0o600))
	}},
	"a state of an older backup": {none: true, do: func(p *sample, dir string) error {
		return os.WriteFile(statePath(dir, 0), p.older[filepath.Base(statePath(dir, 0))], 0o600)
	}},
	"both states of an older backup": {twice: true, none: true, do: func(p *sample, dir string) error {
		return errors.Join(os.WriteFile(statePath(dir, 0), p.older[filepath.Base(statePath(dir, 0))], 0o600),
			os.WriteFile(statePath(dir, 1), p.older[filepath.Base(statePath(dir, 1))], 0o600))
	}},
	"a segment in place of a state, and a state in place of a segment": {do: func(p *sample, dir string) error {
		return errors.Join(duplicate(statePath(dir, 1), p.segment(dir, 0)), duplicate(p.segment(dir, 1), statePath(dir, 0)))
	}},
	"a state that was not written by us": {none: true, do: func(p *sample, dir string) error {
		random := rand.New(rand.NewPCG(5, 6))
		content := p.files[filepath.Base(statePath(dir, 0))]
		for range 1000 {
			body := make([]byte, random.IntN(30))
			for i := range body {
				body[i] = byte(random.IntN(256) * random.IntN(2)) // many lengths that may be ones
			}
			frame := appendState(nil, uint64(random.IntN(5)), 0, body)
			seal(frame, stateSalt, int64(len(content)))
			content = append(content[:len(content):len(content)], frame...)
		}
		return os.WriteFile(statePath(dir, 0), content, 0o600)
	}},
}

// segment is the path of one.
func (p *sample) segment(dir string, i int) string {
	return filepath.Join(dir, slices.Sorted(maps.Keys(p.where))[i])
}

func duplicate(to, from string) error {
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	return err
}

// Whatever befalls the files as a whole: nothing comes that was not written, nothing out of
// order, and what is lost is counted.
func TestWhatAMishapLosesIsCounted(t *testing.T) {
	p := newSample(t)
	for what, m := range mishaps {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := p.with(t, "", nil)
			if err := m.do(p, dir); err != nil {
				t.Fatal(err)
			}
			s := open(t, Options{Dir: dir, MaxSize: 8 << 20})
			for name := range p.left {
				appendNow(t, s.Queue(name), record("newer"))
			}
			closeNow(t, s)
			log := &logs{}
			s = open(t, Options{Dir: dir, MaxSize: 8 << 20, Logger: log.logger()})
			any := 0
			for name, left := range p.left {
				q := s.Queue(name)
				appendNow(t, q, record("new"))
				got, lost := takeDamaged(t, what, q)
				if m.twice { // what was removed before the rest
					got = got[max(0, len(got)-len(left)-2):]
				}
				missing := 0
				for _, payload := range append(slices.Clone(left), "newer", "new") {
					if len(got) > 0 && got[0] == payload {
						got = got[1:]
					} else {
						missing++
					}
				}
				if missing != lost || len(got) > 0 {
					t.Errorf("%s: %d missing, %d counted, %d that were not to come\n%s", name, missing, lost, len(got), log)
				}
				any += missing
			}
			if m.none != (any == 0) {
				t.Errorf("%d are lost\n%s", any, log)
			}
			if s.Len() != 0 || s.Bytes() != 0 {
				t.Errorf("%d records of %d bytes left", s.Len(), s.Bytes())
			}
			closeNow(t, s)
			if s = open(t, Options{Dir: dir, MaxSize: 8 << 20}); s.Len() != 0 {
				t.Errorf("%d come once more", s.Len())
			}
		})
	}
}

// A file may grow while it is read, by whoever writes to it: what is behind its end by then does
// not count.
func TestAFileThatGrowsWhileItIsRead(t *testing.T) {
	p := newSample(t)
	dir, disk := p.with(t, "", nil), new(faults)
	disk.are(func(op, path string) error {
		if op != "read" {
			return nil
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString(strings.Repeat("\x01", 10_000))
			err = errors.Join(err, f.Close())
		}
		return err
	})
	s := open(t, Options{Dir: dir, MaxSize: 8 << 20, files: disk.files()})
	disk.are(nil)
	for name, left := range p.left {
		got, lost := takeDamaged(t, "grown", s.Queue(name))
		if !slices.Equal(got, left) || lost > 0 {
			t.Errorf("%s: %d of %d, %d lost", name, len(got), len(left), lost)
		}
	}
}
