package multicast

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel tells of both tables; what it tells of a single interface is passed over.
func TestTheKernelTellsHowOftenThereWasNoRoomForANeighbour(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		if _, ok := neighbourOverflows(ipv6); !ok {
			t.Errorf("IPv6 %v: it does not tell", ipv6)
		}
	}
	header := func(size, kind uint16) []byte {
		return binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, size), kind)
	}
	table := func(family byte, attributes ...byte) []byte { return append([]byte{family, 0, 0, 0}, attributes...) }
	stats := append(header(4+88, 7), make([]byte, 88)...)
	binary.NativeEndian.PutUint64(stats[4+80:], 9)
	for _, tt := range []struct {
		name    string
		message []byte
		n       uint64
		ok      bool
	}{
		{"the table", table(unix.AF_INET6, stats...), 9, true},
		{"the other's", table(unix.AF_INET, stats...), 0, false},
		{"an interface's", table(unix.AF_INET6, append(header(8, 6), 0, 0, 0, 0)...), 0, false},
		{"before Linux 4.3", table(unix.AF_INET6, append(header(4+80, 7), make([]byte, 80)...)...), 0, false},
		{"cut off", table(unix.AF_INET6, stats[:40]...), 0, false},
		{"nothing", nil, 0, false},
	} {
		n, ok := tableOverflows(tt.message, unix.AF_INET6)
		if n != tt.n || ok != tt.ok {
			t.Errorf("%s: %d, %v", tt.name, n, ok)
		}
	}
}
