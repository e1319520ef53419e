package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"time"
)

// bbolt trusts its file: a page that points to itself sends it round for ever,
// and one that is not there ends the process. So the file is read before bbolt
// sees it, with plain reads, and every pointer in it followed once. That also
// counts what is in it. Only pages in use are read.
//
// A page starts with its number (8 bytes), kind (2), count of elements (2) and
// number of pages that follow it as part of it (4); numbers are in the byte
// order of the machine. Elements of 16 bytes come next and say where the keys
// and values lie.
const (
	pageHeader   = 16
	pageElement  = 16
	bucketHeader = 16 // page of the root, and a number we do not use

	kindBranch   = 0x01
	kindLeaf     = 0x02
	kindFreelist = 0x10

	elementBucket = 1 // flag of an element that is a bucket

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56 // bytes under the checksum

	depthMax   = 64
	numberLast = math.MaxInt64 // of a record
)

var native = binary.NativeEndian

// contents are what a file holds.
type contents struct {
	queues []content
	mark   mark
	marked error         // nil: there is a mark; errUnmarked, or what is wrong with it
	latest time.Duration // when the last of the records came; only where the mark is damaged
}

var errUnmarked = errors.New("there is no mark")

// ErrNewer means that a program of a later version has written the spool's file, or
// what is in it.
var ErrNewer = errors.New("a newer version of topicast wrote the spool's file")

func newerError(what string, is, known int) error {
	return fmt.Errorf("%w: %s is of version %d, and this topicast knows up to %d", ErrNewer, what, is, known)
}

// A content is what a file holds of one queue.
type content struct {
	name    string
	records int
	bytes   int64
	next    uint64 // number after the last record
}

// A checker follows the pointers of a file.
type checker struct {
	file  io.ReaderAt
	pages uint64   // in use or free: the file's high-water mark
	seen  []uint64 // a bit for each page that something points to
	page  []byte   // the page read last
	contents
}

// verify reads a file of that size and says what it holds, or what is wrong.
func verify(file io.ReaderAt, size int64) (contents, error) {
	if size == 0 {
		return contents{marked: errUnmarked}, nil // new
	}
	root, freelist, pages, err := readMeta(file)
	if err != nil {
		return contents{}, err
	}
	if pages > uint64(size)/pageSize {
		return contents{}, fmt.Errorf("the file is cut: it has %d pages of %d", size/pageSize, pages)
	}
	c := &checker{file: file, pages: pages, seen: make([]uint64, pages/64+1), contents: contents{marked: errUnmarked}}
	if err := errors.Join(c.see(0, 0), c.see(1, 0), c.free(freelist)); err != nil {
		return contents{}, err
	}
	if err := c.tree(root, &walk{}, 0); err != nil {
		return contents{}, err
	}
	return c.contents, nil
}

// readMeta reads the newer of the first two pages that is whole. They are
// written in turn, so that one of them always is.
func readMeta(file io.ReaderAt) (root, freelist, pages uint64, err error) {
	newest, found := uint64(0), false
	for i := range int64(2) {
		page := make([]byte, pageSize)
		if _, err := file.ReadAt(page, i*pageSize); err != nil {
			return 0, 0, 0, fmt.Errorf("read page %d: %w", i, err)
		}
		meta := page[pageHeader:]
		sum := fnv.New64a()
		sum.Write(meta[:metaSummed])
		whole := native.Uint32(meta) == metaMagic && native.Uint64(meta[metaSummed:]) == sum.Sum64()
		if version := native.Uint32(meta[4:]); whole && version > metaVersion {
			return 0, 0, 0, newerError("its structure", int(version), metaVersion)
		}
		whole = whole && native.Uint32(meta[4:]) == metaVersion && native.Uint32(meta[8:]) == pageSize
		if transaction := native.Uint64(meta[48:]); whole && (!found || transaction > newest) {
			newest, found = transaction, true
			root, freelist, pages = native.Uint64(meta[16:]), native.Uint64(meta[32:]), native.Uint64(meta[40:])
		}
	}
	if !found {
		return 0, 0, 0, errors.New("neither of the first two pages is whole")
	}
	return root, freelist, pages, nil
}

// see notes that something points to a page and the further ones that belong
// to it. Nothing else may.
func (c *checker) see(id uint64, further uint32) error {
	if id >= c.pages || uint64(further) >= c.pages-id {
		return fmt.Errorf("page %d with %d more is beyond the last, %d", id, further, c.pages-1)
	}
	for ; ; id, further = id+1, further-1 {
		if c.seen[id/64]&(1<<(id%64)) != 0 {
			return fmt.Errorf("page %d is in two places", id)
		}
		c.seen[id/64] |= 1 << (id % 64)
		if further == 0 {
			return nil
		}
	}
}

// read reads a page with those that belong to it into c.page.
func (c *checker) read(id uint64) (kind uint16, count int, err error) {
	var header [pageHeader]byte
	if id >= c.pages {
		return 0, 0, fmt.Errorf("page %d is beyond the last, %d", id, c.pages-1)
	}
	if _, err := c.file.ReadAt(header[:], int64(id)*pageSize); err != nil {
		return 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	if own := native.Uint64(header[:]); own != id {
		return 0, 0, fmt.Errorf("page %d says that it is %d", id, own)
	}
	further := native.Uint32(header[12:])
	if err := c.see(id, further); err != nil {
		return 0, 0, err
	}
	size := (int(further) + 1) * pageSize
	if cap(c.page) < size {
		c.page = make([]byte, size)
	}
	c.page = c.page[:size]
	if _, err := c.file.ReadAt(c.page, int64(id)*pageSize); err != nil {
		return 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	return native.Uint16(header[8:]), int(native.Uint16(header[10:])), nil
}

// free marks the pages that are free. If there are 65,535 or more, the first
// number in the list says how many.
func (c *checker) free(id uint64) error {
	kind, count, err := c.read(id)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	list := c.page[pageHeader:]
	if count == math.MaxUint16 {
		count, list = int(min(native.Uint64(list), c.pages)), list[8:]
	}
	if kind != kindFreelist || count > len(list)/8 {
		return fmt.Errorf("page %d is not a list of free pages", id)
	}
	for i := range count {
		if err := c.see(native.Uint64(list[8*i:]), 0); err != nil {
			return fmt.Errorf("list of free pages: %w", err)
		}
	}
	return nil
}

// A walk goes through the keys of a bucket in their order: the file's own, which
// holds the others; a queue's, which holds records; or the one about all queues.
type walk struct {
	queue *content // nil: not a queue's
	about bool
	last  []byte // key before
	least []byte // what the page above says the next are not before
	any   bool   // there was one
}

// A child is what an element points to.
type child struct {
	page uint64
	key  []byte
}

// tree checks a page and those below it.
func (c *checker) tree(id uint64, w *walk, depth int) error {
	if depth > depthMax {
		return fmt.Errorf("page %d is more than %d deep", id, depthMax)
	}
	kind, count, err := c.read(id)
	if err != nil {
		return err
	}
	var children []child
	switch kind {
	case kindLeaf:
		children, err = c.leaf(c.page, count, w)
	case kindBranch:
		children, err = branch(c.page, count)
	default:
		err = fmt.Errorf("its kind is %#x", kind)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for _, below := range children {
		next := w
		if kind == kindLeaf {
			if next, err = bucketWalk(below.key); err != nil {
				return err
			}
		} else if w.any && bytes.Compare(below.key, w.last) <= 0 {
			return fmt.Errorf("page %d: its keys are not in order", id)
		} else {
			w.least = below.key
		}
		if err := c.tree(below.page, next, depth+1); err != nil {
			return err
		}
		if kind == kindLeaf {
			c.count(next)
		}
	}
	return nil
}

// bucketWalk begins the walk through a bucket.
func bucketWalk(name []byte) (*walk, error) {
	switch {
	case string(name) == string(aboutBucket):
		return &walk{about: true}, nil
	case name[0] == 'q':
		return &walk{queue: &content{name: string(name[1:])}}, nil
	}
	return nil, fmt.Errorf("bucket %q is no queue", name)
}

// count enters what a walk has found.
func (c *checker) count(w *walk) {
	if w.queue != nil {
		c.queues = append(c.queues, *w.queue)
	}
}

// element finds the key and the value of an element.
func element(page []byte, i int, position, keyLen, valueLen uint32) (key, value []byte, err error) {
	start := uint64(pageHeader+i*pageElement) + uint64(position)
	middle := start + uint64(keyLen)
	end := middle + uint64(valueLen)
	if keyLen == 0 || end > uint64(len(page)) {
		return nil, nil, fmt.Errorf("element %d is not in the page", i)
	}
	return page[start:middle], page[middle:end], nil
}

func branch(page []byte, count int) ([]child, error) {
	if count == 0 || pageHeader+count*pageElement > len(page) {
		return nil, fmt.Errorf("it cannot have %d elements", count)
	}
	children := make([]child, count)
	for i := range children {
		e := page[pageHeader+i*pageElement:]
		key, _, err := element(page, i, native.Uint32(e), native.Uint32(e[4:]), 0)
		if err != nil {
			return nil, err
		}
		children[i] = child{page: native.Uint64(e[8:]), key: bytes.Clone(key)}
	}
	return children, nil
}

// leaf checks the elements of a page. The children are the queues in it that
// have pages of their own.
func (c *checker) leaf(page []byte, count int, w *walk) (queues []child, err error) {
	if pageHeader+count*pageElement > len(page) {
		return nil, fmt.Errorf("it cannot have %d elements", count)
	}
	for i := range count {
		e := page[pageHeader+i*pageElement:]
		key, value, err := element(page, i, native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:]))
		if err != nil {
			return nil, err
		}
		if w.any && bytes.Compare(key, w.last) <= 0 || bytes.Compare(key, w.least) < 0 {
			return nil, errors.New("its keys are not in order")
		}
		w.last, w.any = append(w.last[:0], key...), true
		isBucket := native.Uint32(e) == elementBucket
		switch {
		case w.about && !isBucket:
			if err := c.about(key, value); err != nil {
				return nil, err
			}
		case w.queue != nil && !isBucket && len(key) == 8 && number(key) < numberLast:
			if err := c.record(value); err != nil {
				return nil, err
			}
			w.queue.records++
			w.queue.bytes += recordSize(value)
			w.queue.next = number(key) + 1
		case w.queue == nil && !w.about && isBucket && len(value) >= bucketHeader:
			root := native.Uint64(value)
			if root != 0 {
				queues = append(queues, child{page: root, key: bytes.Clone(key)})
			} else if err := c.inline(key, value[bucketHeader:]); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("element %d is neither a queue nor a record", i)
		}
	}
	return queues, nil
}

// record looks at what matters of a record before bbolt is let at the file.
func (c *checker) record(value []byte) error {
	if len(value) > 4 && value[4] > recordVersion && whole(value) {
		return newerError("a record", int(value[4]), recordVersion)
	}
	if c.marked != nil && whole(value) {
		c.latest = max(c.latest, recordAt(value))
	}
	return nil
}

// about reads a value of the bucket about all queues, which comes before theirs.
func (c *checker) about(key, value []byte) error {
	switch string(key) {
	case string(versionKey):
		if len(value) == 2 && value[0] == ^value[1] && value[0] > fileVersion {
			return newerError("the file", int(value[0]), fileVersion)
		}
	case string(markKey):
		c.contents.mark, c.marked = decodeMark(value)
	}
	return nil
}

// inline checks a bucket so small that its page is within the element.
func (c *checker) inline(name, page []byte) error {
	w, err := bucketWalk(name)
	if err != nil {
		return err
	}
	if len(page) < pageHeader || native.Uint16(page[8:]) != kindLeaf {
		return fmt.Errorf("bucket %q has no page", name)
	}
	if _, err := c.leaf(page, int(native.Uint16(page[10:])), w); err != nil {
		return fmt.Errorf("bucket %q: %w", name, err)
	}
	c.count(w)
	return nil
}
