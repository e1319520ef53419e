package multicast

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ReadJoins lists what is joined now. It needs no privilege.
func ReadJoins() (Joins, error) {
	const table, table6 = "/proc/thread-self/net/igmp", "/proc/thread-self/net/igmp6"
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	all := make(Joins)
	all.read(string(text))
	text, err = os.ReadFile(table6)
	if os.IsNotExist(err) {
		return all, nil // without IPv6
	}
	all.read6(string(text))
	return all, err
}

// read takes in the table of IPv4: a line for each interface, and behind it one for each of
// its groups, whose first field is the address as a number of the machine's byte order.
func (j Joins) read(table string) {
	index := 0
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case line[0] != '\t' && line[0] != ' ':
			index, _ = strconv.Atoi(fields[0])
		default:
			if n, err := strconv.ParseUint(fields[0], 16, 32); err == nil {
				var a [4]byte
				binary.NativeEndian.PutUint32(a[:], uint32(n))
				j.Add(index, netip.AddrFrom4(a))
			}
		}
	}
}

// read6 takes in the table of IPv6: a line for each group, with the index and the name of its
// interface and its 32 hexadecimal digits.
func (j Joins) read6(table string) {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		index, err := strconv.Atoi(fields[0])
		a, _ := hex.DecodeString(fields[2])
		if group, ok := netip.AddrFromSlice(a); ok && err == nil {
			j.Add(index, group)
		}
	}
}
