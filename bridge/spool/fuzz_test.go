package spool

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever the bytes, decoding them ends, and what is taken for whole is what
// encoding it again makes.
func FuzzDecodeRecord(f *testing.F) {
	r := record("payload")
	f.Add(appendRecord(nil, &r, time.Hour))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, at, err := decodeRecord(b, "")
		if err != nil || b[4] != recordVersion {
			return
		}
		again := appendRecord(nil, &r, at)
		if diff := cmp.Diff(b, again); diff != "" {
			t.Error(diff)
		}
	})
}

// A record of any content comes back, and none does with one bit changed.
func FuzzRecord(f *testing.F) {
	f.Add(int64(1700000000000000005), "239.1.2.3:5000", []byte("a/b"), []byte("payload"), byte(3), uint(7))
	f.Fuzz(func(t *testing.T, at int64, key string, topic, payload []byte, flags byte, bit uint) {
		want := Record{Key: key, Topic: topic, Payload: payload, Flags: flags}
		if !want.fits() {
			return
		}
		b := appendRecord([]byte("before"), &want, time.Duration(at))[len("before"):]
		if len(b) != want.encodedLen() {
			t.Errorf("%d bytes, announced as %d", len(b), want.encodedLen())
		}
		got, then, err := decodeRecord(b, "another")
		if diff := cmp.Diff(want, got); err != nil || then != time.Duration(at) || string(got.Payload) != string(payload) ||
			(diff != "" && len(topic) > 0 && len(payload) > 0) {
			t.Errorf("at %d, want %d: %v\n%s", then, at, err, diff)
		}
		bit %= uint(len(b)) * 8
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := decodeRecord(b, ""); err == nil {
			t.Errorf("bit %d was changed unseen", bit)
		}
	})
}
