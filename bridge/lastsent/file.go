package lastsent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"

	"topicast/internal/plainfile"
)

// The file: a head, then records, of which the last one for a key counts. A fingerprint of
// 0 takes the key off. While topicast runs records are only appended, and not synced:
// what a killed process has written is there all the same, and after a power cut a
// file that does not say how many records there are is not believed. A record that is
// cut short at the end was being written when the process was killed, and what it
// says has not happened yet.
const (
	fileName   = "last-sent"
	headText   = "topicast last sent, version "
	head       = headText + "1\n"
	headSize   = len(head) + 24
	recordSize = 20
	unknown    = ^uint64(0)
	// maxFile is more than any file becomes: twice what Max entries need, and some.
	maxFile = 2*Max*recordSize + 1<<20
)

var (
	errReboot  = errors.New("it was not written to its end before the machine started anew")
	errDamaged = errors.New("what is in it is not what was written; look at the disk's health")
	errVersion = errors.New("it is of another version of topicast")
)

// header is what stands in front.
type header struct {
	boot    uint64 // in which it was written
	records uint64 // how many follow; unknown: some, and more may come
}

func (h header) append(to []byte) []byte {
	from := len(to)
	to = append(to, head...)
	to = binary.LittleEndian.AppendUint64(to, h.boot)
	to = binary.LittleEndian.AppendUint64(to, h.records)
	return binary.LittleEndian.AppendUint64(to, xxhash.Sum64(to[from:]))
}

// record says what was last sent for a key.
type record struct{ key, fingerprint uint64 }

func (r record) append(to []byte) []byte {
	from := len(to)
	to = binary.LittleEndian.AppendUint64(to, r.key)
	to = binary.LittleEndian.AppendUint64(to, r.fingerprint)
	return binary.LittleEndian.AppendUint32(to, uint32(xxhash.Sum64(to[from:])))
}

// read reads a file. clean: it was written to its end.
func read(path, boot string) (known []record, clean bool, err error) {
	f, err := plainfile.OpenOwn(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Size() > maxFile {
		return nil, false, errDamaged
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, false, err
	}
	return parse(data, boot)
}

func parse(data []byte, boot string) (known []record, clean bool, err error) {
	if !bytes.HasPrefix(data, []byte(head)) {
		if bytes.HasPrefix(data, []byte(headText)) {
			return nil, false, errVersion
		}
		return nil, false, errDamaged
	}
	if len(data) < headSize || binary.LittleEndian.Uint64(data[headSize-8:]) != xxhash.Sum64(data[:headSize-8]) {
		return nil, false, errDamaged
	}
	h := header{binary.LittleEndian.Uint64(data[len(head):]), binary.LittleEndian.Uint64(data[len(head)+8:])}
	clean = h.records != unknown
	if !clean && (h.boot == 0 || h.boot != bootNumber(boot)) {
		return nil, false, errReboot
	}
	data = data[headSize:]
	if clean && (uint64(len(data)) != h.records*recordSize) {
		return nil, false, errDamaged
	}
	at := make(map[uint64]uint64, len(data)/recordSize)
	for ; len(data) >= recordSize; data = data[recordSize:] {
		if binary.LittleEndian.Uint32(data[16:]) != uint32(xxhash.Sum64(data[:16])) {
			return nil, false, errDamaged
		}
		key, fingerprint := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
		if fingerprint == 0 {
			delete(at, key)
		} else {
			at[key] = fingerprint
		}
	}
	known = make([]record, 0, len(at))
	for key, fingerprint := range at {
		known = append(known, record{key, fingerprint})
	}
	return known, clean, nil
}
