package spool

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever the bytes, reading them ends, and what is taken for a frame is what encoding it
// again makes.
func FuzzDecodeRecord(f *testing.F) {
	r := record("payload")
	b := appendFrame(nil, "rule", &r, time.Hour)
	setNumber(b, 7)
	seal(b, 1, 0)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = decodeOld(b)
		r := &reader{size: int64(len(b)), salt: 1, buffer: b}
		r.each(func(at int64, f *frame) {
			if f.kind != recordKind {
				return
			}
			again := Record{Key: string(f.key), Topic: f.topic, Payload: f.payload, Flags: f.flags}
			encoded := appendFrame(nil, string(f.name), &again, f.at)
			setNumber(encoded, f.number)
			seal(encoded, 1, at)
			if diff := cmp.Diff(b[at:at+int64(f.length)], encoded); diff != "" {
				t.Error(diff)
			}
		})
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
		b := appendFrame(nil, "rule", &want, time.Duration(at))
		setNumber(b, 5)
		seal(b, 9, 0)
		read := func(salt uint64) (f frame, ok bool) {
			r := &reader{size: int64(len(b)), salt: salt, buffer: b}
			f, _, ok = r.frame(0)
			return f, ok
		}
		if got, ok := read(9); !ok || got.at != time.Duration(at) || got.number != 5 || got.flags != flags || string(got.name) != "rule" ||
			string(got.key) != key || string(got.topic) != string(topic) || string(got.payload) != string(payload) {
			t.Errorf("got %+v", got)
		}
		if _, ok := read(8); ok {
			t.Error("a frame of another file is taken for one of this")
		}
		bit %= uint(len(b)) * 8
		b[bit/8] ^= 1 << (bit % 8)
		if _, ok := read(9); ok {
			t.Errorf("bit %d was changed unseen", bit)
		}
	})
}
