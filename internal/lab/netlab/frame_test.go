package netlab

import (
	"fmt"
	"testing"
)

func TestFragmentsArePutTogetherInAnyOrder(t *testing.T) {
	udp := append([]byte{0x12, 0x34, 0x75, 0x30, 0, 32, 0, 0}, "abcdefghijklmnopqrstuvwx"...)
	parts := make([]Frame, 0, 4)
	for offset := 0; offset < len(udp); offset += 8 {
		f := Frame{Protocol: protoUDP, Payload: udp[offset : offset+8]}
		f.fragment(7, offset, offset+8 < len(udp))
		parts = append(parts, f)
	}
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}} {
		r := reassembly{}
		for i, part := range order {
			whole, ok := r.add(parts[part])
			if last := i == len(parts)-1; ok != last {
				t.Fatalf("order %v: whole after %d parts is %t", order, i+1, ok)
			}
			if ok && (string(whole.Payload) != string(udp[8:]) || whole.Dst.Port() != 30000 || whole.Fragments != 4) {
				t.Errorf("order %v: got %v in %d fragments", order, whole, whole.Fragments)
			}
		}
		if len(r) != 0 {
			t.Errorf("order %v: %s left over", order, fmt.Sprint(r))
		}
	}
}

func FuzzDecode(f *testing.F) {
	v4 := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 30, 0, 1, 0x20, 0, 1, 17, 0, 0, 10, 0, 0, 1, 239, 1, 2, 3)
	f.Add(append(v4, make([]byte, 10)...))
	v6 := append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 0, 1)
	f.Add(append(append(v6, make([]byte, 32)...), 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9))
	igmp := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 1, 2, 0, 0, 10, 0, 0, 1, 224, 0, 0, 22)
	f.Add(append(igmp, 0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 1, 239, 1, 2, 3, 10, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, ok := decode(b)
		if !ok {
			return
		}
		_ = frame.String()
		if frame.Fragments == 0 {
			reassembly{}.add(frame)
		}
	})
}
