package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An answer is what all clients get that asked for it at the same time: however slowly they read,
// they hold no more than its compressed text.
type answer struct {
	text   []byte
	packed bool   // by gzip
	tag    string // tells it from others
	err    error
	ready  chan struct{}
	askers int // who wait for it to be begun; guarded by the mu of answers
}

// mostAtOnce is how many answers are made at a time.
const mostAtOnce = 1

// answers makes answers, one at a time.
type answers struct {
	turn chan struct{} // taken by who makes one

	// Of the one whose turn it is. They are kept, as a compressor alone takes a megabyte.
	text   bytes.Buffer
	packer *gzip.Writer // nil: they are short
	sum    hash.Hash64

	mu   sync.Mutex
	next map[string]*answer // that nobody has begun to make, by what is asked for
}

func newAnswers() *answers {
	a := newShortAnswers()
	a.packer, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that is none
	return a
}

// newShortAnswers are those that are not worth compressing.
func newShortAnswers() *answers {
	return &answers{turn: make(chan struct{}, mostAtOnce), sum: fnv.New64a(), next: make(map[string]*answer)}
}

// get returns an answer that was begun after it was asked for, and what write returned.
// write makes the text of what is asked for by this key.
func (a *answers) get(ctx context.Context, key string, write func(io.Writer) error) (*answer, error) {
	mine := a.join(key)
	select {
	case <-mine.ready:
	case a.turn <- struct{}{}:
		a.make(mine, key, write)
	case <-ctx.Done():
		a.leave(mine, key)
		return nil, ctx.Err()
	}
	return mine, mine.err
}

// join returns the next answer for a key.
func (a *answers) join(key string) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.next[key]
	if next == nil {
		next = &answer{ready: make(chan struct{})}
		a.next[key] = next
	}
	next.askers++
	return next
}

// leave is called by a client that does not wait any more.
func (a *answers) leave(mine *answer, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if mine.askers--; mine.askers == 0 && a.next[key] == mine {
		delete(a.next, key)
	}
}

// make makes an answer, unless another has, and gives the turn back. Then nobody has it for
// as long as that took: whoever asks without a pause leaves half of a processor.
func (a *answers) make(mine *answer, key string, write func(io.Writer) error) {
	a.mu.Lock()
	begun := a.next[key] != mine
	if !begun {
		delete(a.next, key)
	}
	a.mu.Unlock()
	if begun {
		<-a.turn
		<-mine.ready
		return
	}
	began := time.Now()
	defer func() { // also after a panic, which is not to silence the others
		close(mine.ready)
		time.AfterFunc(time.Since(began), func() { <-a.turn })
	}()
	a.text.Reset()
	a.sum.Reset()
	mine.err = errBroken
	mine.packed = a.packer != nil
	var err error
	if mine.packed {
		a.packer.Reset(&a.text)
		err = write(io.MultiWriter(a.packer, a.sum))
		a.packer.Close() // to memory
	} else {
		err = write(&a.text)
	}
	mine.text, mine.tag, mine.err = bytes.Clone(a.text.Bytes()), tagOf(a.sum), err
}

var errBroken = errors.New("the answer could not be made; the log has the cause")

// tagOf is an ETag. It is weak, as an answer that is compressed has the same.
func tagOf(sum hash.Hash64) string { return fmt.Sprintf(`W/"%x"`, sum.Sum64()) }

// send writes the answer, compressed if the client accepts gzip, as browsers and Prometheus do.
func (a *answer) send(w http.ResponseWriter, r *http.Request) {
	if !a.packed {
		w.Write(a.text)
		return
	}
	w.Header().Add("Vary", "Accept-Encoding")
	if takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(a.text)))
		w.Write(a.text)
		return
	}
	if text, err := gzip.NewReader(bytes.NewReader(a.text)); err == nil {
		io.Copy(w, text) // until the reader has gone
	}
}

// takesGzip reports whether the client can read gzip (RFC 9110 12.5.3).
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, weighed := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
		return !weighed || err == nil && q > 0
	}
	return false
}

// unchanged reports whether the client has this answer already (RFC 9110 13.1.2).
func unchanged(r *http.Request, tag string) bool {
	for t := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		if t = strings.TrimSpace(t); t == tag || t == "*" {
			return true
		}
	}
	return false
}
