package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// An oldFile is a file that bbolt wrote, of which each page is believed as far as it
// makes sense: what is damaged is passed over.
//
// A page starts with its number (8 bytes), kind (2), count of elements (2) and
// number of pages that follow it as part of it (4); numbers are in the byte
// order of the machine. Elements of 16 bytes come next and say where the keys
// and values lie. Keys of records are their numbers.
type oldFile struct {
	file   *file
	pages  uint64 // of the file
	root   uint64
	seen   map[uint64]bool // pages that something has pointed to
	damage error           // the first
	mark   *mark           // nil: there is none
	do     func(queue string, number uint64, value []byte) error
}

const (
	oldPage       = 4096
	oldHeader     = 16 // of a page, of an element, and of a bucket in it
	oldBranch     = 1
	oldLeaf       = 2
	oldBucket     = 1 // flag of an element that is a bucket
	oldMagic      = 0xED0CDAED
	oldStructure  = 2
	oldMetaSummed = 56 // bytes under the checksum
	oldDeepest    = 64
)

var (
	native   = binary.NativeEndian
	errNewer = errors.New("a newer version of topicast wrote it")
)

// openOld reads the newer of the first two pages that is whole.
func openOld(f *file) (*oldFile, error) {
	o := &oldFile{file: f, seen: map[uint64]bool{}}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return o, err
	}
	o.pages = uint64(info.Size() / oldPage)
	newest := uint64(0)
	for i := range int64(2) {
		page := make([]byte, oldPage)
		if _, err := f.ReadAt(page, i*oldPage); err != nil {
			o.spoilt(err)
			continue
		}
		meta := page[oldHeader:]
		sum := fnv.New64a()
		sum.Write(meta[:oldMetaSummed])
		if native.Uint32(meta) != oldMagic || native.Uint64(meta[oldMetaSummed:]) != sum.Sum64() {
			o.spoilt(fmt.Errorf("page %d is damaged", i))
			continue
		}
		if native.Uint32(meta[4:]) > oldStructure {
			return o, errNewer
		}
		if transaction := native.Uint64(meta[48:]); transaction >= newest {
			newest, o.root = transaction, native.Uint64(meta[16:])
		}
	}
	if o.root == 0 {
		return o, errors.New("neither of its first two pages is whole")
	}
	return o, o.versions()
}

// most is how many records may be in it.
func (o *oldFile) most() uint64 { return o.pages * oldPage / (oldHeader + 8 + oldRecordHeader) }

// spoilt notes damage.
func (o *oldFile) spoilt(err error) {
	if o.damage == nil {
		o.damage = err
	}
}

// versions finds out whether it is of a version that is known.
func (o *oldFile) versions() (err error) {
	damage, seen := o.damage, o.seen
	o.seen = map[uint64]bool{}
	err = o.tree(o.root, "", true, 0)
	o.damage, o.seen = damage, seen
	return err
}

// each calls do for each record, in their order.
func (o *oldFile) each(do func(queue string, number uint64, value []byte) error) error {
	if o.root == 0 {
		return nil // it is empty
	}
	o.do = do
	return o.tree(o.root, "", true, 0)
}

// read reads a page with those that belong to it.
func (o *oldFile) read(id uint64) ([]byte, error) {
	if id >= o.pages || o.seen[id] {
		return nil, fmt.Errorf("page %d is not there, or in two places", id)
	}
	o.seen[id] = true
	page := make([]byte, oldPage)
	if _, err := o.file.ReadAt(page, int64(id)*oldPage); err != nil {
		return nil, err
	}
	further := uint64(native.Uint32(page[12:]))
	if native.Uint64(page) != id || further >= o.pages-id || further > 2*maxRecord/oldPage {
		return nil, fmt.Errorf("page %d is damaged", id)
	}
	if further == 0 {
		return page, nil
	}
	page = make([]byte, (further+1)*oldPage)
	_, err := o.file.ReadAt(page, int64(id)*oldPage)
	return page, err
}

// tree goes through a page of a bucket and those below it; top: of that which holds the
// others.
func (o *oldFile) tree(id uint64, bucket string, top bool, depth int) error {
	if depth > oldDeepest {
		o.spoilt(errors.New("its pages are in a circle"))
		return nil
	}
	page, err := o.read(id)
	if err != nil {
		o.spoilt(err)
		return nil
	}
	return o.page(page, bucket, top, depth)
}

func (o *oldFile) page(page []byte, bucket string, top bool, depth int) error {
	kind := native.Uint16(page[8:])
	for i := range int(native.Uint16(page[10:])) {
		at := oldHeader + i*oldHeader
		if kind != oldLeaf && kind != oldBranch || at+oldHeader > len(page) {
			o.spoilt(errors.New("a page is damaged"))
			return nil
		}
		e := page[at:]
		if kind == oldBranch {
			if err := o.tree(native.Uint64(e[8:]), bucket, top, depth+1); err != nil {
				return err
			}
			continue
		}
		start := uint64(native.Uint32(e[4:]))
		middle := start + uint64(native.Uint32(e[8:]))
		end := middle + uint64(native.Uint32(e[12:]))
		if end > uint64(len(e)) || middle == start {
			o.spoilt(errors.New("a page is damaged"))
			continue
		}
		if err := o.element(native.Uint32(e), e[start:middle], e[middle:end], bucket, top, depth); err != nil {
			return err
		}
	}
	return nil
}

// element reads a bucket in the one that holds them, or what is in one of those.
func (o *oldFile) element(flags uint32, key, value []byte, bucket string, top bool, depth int) error {
	switch {
	case top && o.do == nil && string(key) != "about":
		return nil // that is for later
	case top && flags == oldBucket && len(value) >= oldHeader:
		if root := native.Uint64(value); root != 0 {
			return o.tree(root, string(key), false, depth+1)
		}
		if value = value[oldHeader:]; len(value) < oldHeader { // its page is here
			break
		}
		return o.page(value, string(key), false, depth+1)
	case !top && flags == 0 && bucket == "about":
		return o.about(string(key), value)
	case !top && flags == 0 && bucket[0] == 'q' && len(key) == 8:
		return o.do(bucket[1:], binary.BigEndian.Uint64(key), value)
	}
	o.spoilt(errors.New("a page is damaged"))
	return nil
}

// about reads what concerns all queues.
func (o *oldFile) about(key string, value []byte) error {
	switch key {
	case "version":
		if len(value) == 2 && value[0] == ^value[1] && value[0] > oldRecordVersion {
			return errNewer
		}
	case "mark":
		m, err := decodeMark(value)
		if err != nil {
			o.spoilt(err)
			return nil
		}
		o.mark = &m
	}
	return nil
}
