package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// What a newer version wrote is neither removed, nor moved aside, nor touched.
func TestAFileOfANewerVersionIsKeptAsItIs(t *testing.T) {
	newer := func(value []byte) []byte {
		value = bytes.Clone(value)
		value[4] = recordVersion + 1
		binary.BigEndian.PutUint32(value, crc32.Checksum(value[4:], castagnoli))
		return value
	}
	for name, change := range map[string]func(*bolt.Tx) error{
		"file": func(tx *bolt.Tx) error {
			return tx.Bucket(aboutBucket).Put(versionKey, []byte{fileVersion + 1, ^byte(fileVersion + 1)})
		},
		"record": func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketName("rule"))
			key, value := b.Cursor().First()
			return b.Put(bytes.Clone(key), newer(value))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
			appendNow(t, s.Queue("rule"), record("0"), record("1"))
			closeNow(t, s)
			edit(t, dir, change)
			refused(t, dir)
		})
	}
	t.Run("structure", func(t *testing.T) {
		dir := t.TempDir()
		closeNow(t, open(t, Options{Dir: dir, MaxSize: 1 << 20}))
		path := filepath.Join(dir, "spool.db")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			meta := content[i*pageSize+pageHeader:]
			native.PutUint32(meta[4:], metaVersion+1)
			sum := fnv.New64a()
			sum.Write(meta[:metaSummed])
			native.PutUint64(meta[metaSummed:], sum.Sum64())
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir)
	})
}

// refused wants a file not to be used, and nothing in its folder to change.
func refused(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "spool.db")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := openFails(dir, "run that version, or move the file away to begin a new one; nothing in it is touched"); err != nil {
		t.Error(err)
	}
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	if !errors.Is(s.Err(), ErrNewer) {
		t.Errorf("got %v", s.Err())
	}
	closeNow(t, s)
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// A version that is damaged is no newer one.
func TestADamagedVersionIsNoNewerOne(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 20})
	appendNow(t, s.Queue("rule"), record("0"), record("1"))
	closeNow(t, s)
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketName("rule"))
		key, value := b.Cursor().First()
		value = bytes.Clone(value)
		value[4]++
		return errors.Join(b.Put(bytes.Clone(key), value), tx.Bucket(aboutBucket).Put(versionKey, []byte{fileVersion + 1, 0}))
	})
	s = open(t, Options{Dir: dir, MaxSize: 1 << 20})
	dst := make([]Record, 2)
	if n, lost := s.Queue("rule").Front(dst, 0); n != 1 || lost.Damaged != 1 {
		t.Errorf("%d records, lost %+v", n, lost)
	}
}
