package spool

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A segment is a file of frames. It is only ever appended to; when all records in it are
// removed it is deleted, and when most of them are, the rest may be written anew.
type segment struct {
	id   uint64 // the larger, the later
	salt uint64
	path string
	on   *files
	file *file // nil: it is opened to read it, for there are many
	size int64 // bytes that are safe

	// Under the spool's mutex.
	index map[*Queue]places // where the records of each queue are that are not removed
	live  int               // how many that are
	used  int64             // bytes that they take

	held bool // records of it are removed of which copies are not on disk yet
	keep bool // it cannot be read wholly: what is left is not written anew
}

// A file's name is this, an id, a salt and the version of all that is in it.
const (
	segmentPrefix = "spool-"
	fileVersion   = 3
)

// maxSegmentID is more than the id of any segment becomes: there is room for more behind it.
const maxSegmentID = 1 << 62

// maxOpen is how many segments are open at a time. Those can be read even when their
// folder is gone.
const maxOpen = 128

func segmentName(id, salt uint64) string {
	return fmt.Sprintf("%s%016x-%016x.v%d", segmentPrefix, id, salt, fileVersion)
}

// parseSegment reads a segment's name, of any version.
func parseSegment(name string) (id, salt uint64, version int, ok bool) {
	rest, ok := strings.CutPrefix(name, segmentPrefix)
	if !ok || len(rest) < 35 || rest[16] != '-' || rest[33:35] != ".v" {
		return 0, 0, 0, false
	}
	id, err1 := strconv.ParseUint(rest[:16], 16, 64)
	salt, err2 := strconv.ParseUint(rest[17:33], 16, 64)
	version, err3 := strconv.Atoi(rest[35:])
	return id, salt, version, err1 == nil && err2 == nil && err3 == nil && id < maxSegmentID
}

// newSegment describes the one of that name in a folder.
func newSegment(on *files, dir string, id, salt uint64) *segment {
	return &segment{on: on, id: id, salt: salt, path: filepath.Join(dir, segmentName(id, salt)), index: map[*Queue]places{}}
}

// ReadAt reads from the file.
func (g *segment) ReadAt(b []byte, at int64) (int, error) {
	if g.file != nil {
		return g.file.ReadAt(b, at)
	}
	f, err := g.on.open(g.path, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, at)
}

// left are the records in it that are not removed, as they lie there. Callers hold the
// spool's mutex.
func (g *segment) left() []spot {
	all := make([]spot, 0, g.live)
	for q, index := range g.index {
		for at := range index.from(new(position)) {
			all = append(all, spot{q, at})
		}
	}
	slices.SortFunc(all, func(a, b spot) int { return cmp.Compare(a.at, b.at) })
	return all
}

// A spot is where a record of a queue is.
type spot struct {
	queue *Queue
	at    uint32
}

// add enters a record of q. Callers hold the spool's mutex.
func (g *segment) add(q *Queue, at uint32, length int) {
	index := g.index[q]
	index.add(at)
	g.index[q] = index
	g.live++
	g.used += int64(length)
}

// inPlace reports whether the file is the one at its path.
func (g *segment) inPlace() bool {
	if g.file != nil {
		return g.on.sameFile(g.file, g.path)
	}
	info, err := g.on.lstat(g.path)
	return err == nil && info.Mode().IsRegular() || err != nil && !gone(err)
}

func (g *segment) close() {
	if g.file != nil {
		g.file.Close()
		g.file = nil
	}
}
