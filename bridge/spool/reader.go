package spool

import (
	"bytes"
	"io"
)

// window is how much of a file is read at once,
// and sparse where little of it is wanted.
const (
	window = 256 << 10
	sparse = 4096
)

// A reader reads the frames of a file.
type reader struct {
	file   io.ReaderAt
	size   int64
	salt   uint64
	buffer []byte
	start  int64 // where in the file the buffer begins
	ahead  int   // how much is read at once
	failed error // the first error of a read
}

// open goes on with a segment, of which so many bytes are safe, to read what is at some
// places: all at once where they are close to each other.
func (r *reader) open(g *segment, size int64, places []uint32) {
	*r = reader{file: g, size: size, salt: g.salt, buffer: r.buffer[:0], ahead: sparse}
	if n := len(places); n > 1 {
		if apart := int64(places[n-1] - places[0]); apart/int64(n) < sparse {
			r.ahead = int(min(apart+sparse, window))
		}
	}
}

// bytes are those at a place, fewer at the end of the file. They stay until the next call.
func (r *reader) bytes(at int64, n int) []byte {
	n = int(min(int64(n), r.size-at))
	if n <= 0 {
		return nil
	}
	if at < r.start || at+int64(n) > r.start+int64(len(r.buffer)) {
		r.fill(at, int(min(int64(max(n, r.ahead)), r.size-at)))
	}
	from := int(at - r.start)
	return r.buffer[from : from+n]
}

// fill reads n bytes. What cannot be read is zeros: that is no frame.
func (r *reader) fill(at int64, n int) {
	const block = 4096 // what a disk cannot read is mostly one of these
	if cap(r.buffer) < n {
		r.buffer = make([]byte, n)
	}
	r.buffer, r.start = r.buffer[:n], at
	if got, err := r.file.ReadAt(r.buffer, at); got == n {
		return
	} else if r.failed == nil {
		r.failed = err
	}
	for i := 0; i < n; {
		part := r.buffer[i:min(n, i+block-int((at+int64(i))%block))]
		if _, err := r.file.ReadAt(part, at+int64(i)); err != nil {
			clear(part)
		}
		i += len(part)
	}
}

// frame reads the one at a place. Where there is none it tells how much to skip to where
// the next may be: a header that is in order says how long its frame is.
func (r *reader) frame(at int64) (f frame, skip int, ok bool) {
	header := r.bytes(at, frameHeader)
	if len(header) < frameHeader {
		return frame{}, max(len(header), 1), false
	}
	length, ok := frameLength(header, r.salt, at)
	if !ok || int64(length) > r.size-at {
		return frame{}, r.apart(at), false
	}
	f, ok = decodeFrame(r.bytes(at, length))
	return f, length, ok
}

// apart is how far it is from a place to the next where a frame may begin, for one of its
// kinds is where it has to be. Else the zeros behind the end of a file would take minutes.
func (r *reader) apart(at int64) int {
	const most = 4096
	rest := r.buffer[min(at-r.start+kindAt+1, int64(len(r.buffer))):]
	rest = rest[:min(len(rest), most)]
	n := len(rest)
	for _, kind := range [...]byte{recordKind, stateKind} {
		if i := bytes.IndexByte(rest[:n], kind); i >= 0 {
			n = i
		}
	}
	return n + 1
}

// each calls do for each frame from a place on, and returns where the last one ends; and
// how many bytes before that are none.
func (r *reader) each(do func(at int64, f *frame)) (end, bad int64) {
	var f frame // one, for do has it on the heap
	for at := int64(0); at < r.size; {
		is, skip, ok := r.frame(at)
		if f = is; !ok {
			at += int64(skip)
			continue
		}
		bad += at - end
		do(at, &f)
		at += int64(f.length)
		end = at
	}
	return end, bad
}
