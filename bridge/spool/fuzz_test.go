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
	r.At = time.Unix(1700000000, 5)
	f.Add(appendRecord(nil, &r))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, whole := decodeRecord(b, "")
		if !whole {
			return
		}
		again := appendRecord(nil, &r)
		if diff := cmp.Diff(b, again); diff != "" {
			t.Error(diff)
		}
	})
}

// A record of any content comes back, and none does with one bit changed.
func FuzzRecord(f *testing.F) {
	f.Add(int64(1700000000000000005), "239.1.2.3:5000", []byte("a/b"), []byte("payload"), byte(3), uint(7))
	f.Fuzz(func(t *testing.T, at int64, key string, topic, payload []byte, flags byte, bit uint) {
		want := Record{At: time.Unix(0, at), Key: key, Topic: topic, Payload: payload, Flags: flags}
		if !want.fits() {
			return
		}
		b := appendRecord([]byte("before"), &want)[len("before"):]
		if len(b) != want.encodedLen() {
			t.Errorf("%d bytes, announced as %d", len(b), want.encodedLen())
		}
		got, whole := decodeRecord(b, "another")
		if diff := cmp.Diff(want, got); !whole || string(got.Payload) != string(payload) ||
			(diff != "" && len(topic) > 0 && len(payload) > 0) {
			t.Errorf("whole: %v\n%s", whole, diff)
		}
		bit %= uint(len(b)) * 8
		b[bit/8] ^= 1 << (bit % 8)
		if _, whole := decodeRecord(b, ""); whole {
			t.Errorf("bit %d was changed unseen", bit)
		}
	})
}
