package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"topicast/internal/plainfile"
)

// What is done with the records, how many there have been, and the time are in two files
// of states, which hold the same, so that one damage leaves one of them. With each commit
// comes a state at the end of both that says it of the queues concerned; each file begins
// with one that says it of all.
//
// That a record was removed is safe when it is in the first file. How many were written
// has only to outlive a kill: it is what tells that some are lost at the very end.
type states struct {
	on    *files
	dir   string
	files [2]*file
	sizes [2]int64
	begun int64  // the size of the first when it was begun
	last  uint64 // number of the last state
	// heads are checksums of what the files began with, or were about to: it has the time in it, so
	// that no other spool's files begin with the same.
	heads []uint64

	// What was read.
	found bool  // one of the files
	mark  *mark // nil: there is none
	first uint64
	known map[string]span
}

// A span of numbers: records of a queue that are not removed, as far as they are not lost.
type span struct{ head, next uint64 }

// stateSalt is that of both files: nobody else writes frames of their kind.
const stateSalt = 0x73706f6f6c

// rewriteFrom is how much a file of states may grow before it is begun anew.
const rewriteFrom = 1 << 20

// maxStates is more than a file of states becomes.
const maxStates = 5*maxState + rewriteFrom

// fullState flags a state that says all.
const fullState = 1

func statePath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%sstate-%c.v%d", segmentPrefix, 'a'+rune(i), fileVersion))
}

// readStates reads both files, as far as they are whole. What came before a state that
// says all does not count: it may be of queues that are forgotten.
func readStates(on *files, dir string) (*states, error) {
	s := &states{on: on, dir: dir, known: map[string]span{}}
	var all []frame
	full, unread := uint64(0), error(nil)
	for i := range s.files {
		r, err := openStates(on, statePath(dir, i))
		switch {
		case errors.Is(err, fs.ErrNotExist) || plainfile.Is(err):
			continue // it is made anew, and what is in its place moved aside
		case errors.Is(err, fs.ErrPermission):
			unread = err
			continue
		case err != nil:
			return nil, err
		}
		defer r.close()
		s.found = true
		r.each(func(at int64, f *frame) {
			if f.kind == stateKind {
				if at == 0 {
					s.heads = append(s.heads, headOf(f.number, f.payload))
				}
				f := *f
				f.payload = bytes.Clone(f.payload)
				all = append(all, f)
				s.last = max(s.last, f.number)
				if f.flags == fullState {
					full = max(full, f.number)
				}
			}
		})
	}
	if !s.found && unread != nil {
		return nil, unread // without either, all would come again
	}
	marked := uint64(0)
	for _, f := range all {
		if f.number < full {
			continue
		}
		if m := s.merge(f.payload); m != nil && f.number >= marked {
			s.mark, marked = m, f.number
		}
	}
	return s, nil
}

// A stateReader reads a file of states. A part that cannot be read is damage.
type stateReader struct {
	reader
	close func() error
}

func openStates(on *files, path string) (*stateReader, error) {
	f, err := on.open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	size := min(info.Size(), maxStates)
	return &stateReader{reader{file: f, size: size, salt: stateSalt, ahead: window}, f.Close}, nil
}

// A state is:
//
//	0   length of the mark of the time (2), and the mark
//	    the least number for a record of a new queue (8)
//	    of each queue: the length of its name (2), the name, its head (8) and next (8)
//
// Whatever it is, reading it ends: who may write to the folder can make checksums, too.
func (s *states) merge(b []byte) *mark {
	encoded, b, ok := cutField(b, 8)
	if !ok {
		return nil
	}
	m, err := decodeMark(encoded)
	s.first, b = max(s.first, binary.BigEndian.Uint64(b)), b[8:]
	for {
		name, rest, ok := cutField(b, 16)
		if !ok {
			break
		}
		k := s.known[string(name)]
		head, next := binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
		s.known[string(name)] = span{max(k.head, head), max(k.next, next)}
		b = rest[16:]
	}
	if err != nil {
		return nil
	}
	return &m
}

// cutField cuts off a field with its length (2) in front, if so many bytes come behind it.
func cutField(b []byte, behind int) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n+behind {
		return nil, nil, false
	}
	return b[2:n], b[n:], true
}

// stateOf begins a state.
func stateOf(m mark, first uint64) []byte {
	encoded := m.encode()
	b := binary.BigEndian.AppendUint16(nil, uint16(len(encoded)))
	b = append(b, encoded...)
	return binary.BigEndian.AppendUint64(b, first)
}

// appendQueue says of a queue where it is.
func appendQueue(b []byte, name string, is span) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint64(b, is.head)
	return binary.BigEndian.AppendUint64(b, is.next)
}

// write adds a state to both files.
func (s *states) write(state []byte, safe bool) error {
	s.last++
	frame := appendState(nil, s.last, 0, state)
	for i, f := range s.files {
		if f == nil {
			return os.ErrClosed
		}
		seal(frame, stateSalt, s.sizes[i])
		if _, err := f.WriteAt(frame, s.sizes[i]); err != nil {
			return err
		}
		s.sizes[i] += int64(len(frame))
	}
	if safe {
		return s.files[0].Sync()
	}
	return nil
}

// old reports whether the files are to be begun anew: they are long, or not there.
func (s *states) old() bool {
	return s.files[0] == nil || s.files[1] == nil || s.sizes[0] > 4*s.begun+rewriteFrom
}

// begin begins both files anew, one after the other, with a state that says all.
func (s *states) begin(state []byte) error {
	s.last++
	frame := appendState(nil, s.last, fullState, state)
	seal(frame, stateSalt, 0)
	// Should the second file not be begun, it is as before.
	s.heads = append(s.heads[max(0, len(s.heads)-2):], headOf(s.last, state))
	for i := range s.files {
		if s.files[i] != nil { // there are systems that replace no file that is open
			s.files[i].Close()
		}
		var err error
		s.files[i], err = s.on.replace(statePath(s.dir, i), func(f *file) error {
			_, err := f.Write(frame)
			return err
		})
		if err != nil {
			return err
		}
		s.sizes[i] = int64(len(frame))
	}
	s.begun = int64(len(frame))
	return nil
}

// headOf is the checksum of a state.
func headOf(number uint64, state []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(binary.BigEndian.AppendUint64(nil, number))
	sum.Write(state)
	return sum.Sum64()
}

// sharesWith reports whether a file of one is a file of the other.
func (s *states) sharesWith(other *states) bool {
	return slices.ContainsFunc(s.heads, func(head uint64) bool { return slices.Contains(other.heads, head) })
}

// inPlace reports whether both files are those at their paths.
func (s *states) inPlace() bool {
	for i, f := range s.files {
		if f != nil && !s.on.sameFile(f, statePath(s.dir, i)) {
			return false
		}
	}
	return true
}

func (s *states) close() {
	for i, f := range s.files {
		if f != nil {
			f.Close()
		}
		s.files[i] = nil
	}
}
