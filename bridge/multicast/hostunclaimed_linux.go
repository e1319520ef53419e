package multicast

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CountHostUnclaimed reads the counts of both families. It needs no privilege.
func CountHostUnclaimed() (u HostUnclaimed, err error) {
	const table, table6 = "/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"
	text, err := os.ReadFile(table)
	if err != nil {
		return u, err
	}
	counts := snmpOf(string(text), "Udp:")
	unicast, known := counts["NoPorts"]
	if !known {
		return u, fmt.Errorf("%s has no count of Udp NoPorts", table)
	}
	u = HostUnclaimed{unicast, counts["IgnoredMulti"]} // since Linux 3.19
	text, err = os.ReadFile(table6)
	if os.IsNotExist(err) {
		return u, nil // without IPv6
	}
	for line := range strings.Lines(string(text)) {
		switch fields := strings.Fields(line); {
		case len(fields) != 2:
		case fields[0] == "Udp6NoPorts":
			u.Unicast += number(fields[1])
		case fields[0] == "Udp6IgnoredMulti":
			u.Multicast += number(fields[1])
		}
	}
	return u, err
}

// snmpOf reads a table of which a line has the names and the next the numbers.
func snmpOf(text, prefix string) map[string]uint64 {
	counts := make(map[string]uint64)
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != prefix {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i := 1; i < min(len(names), len(fields)); i++ {
			counts[names[i]] = number(fields[i])
		}
	}
	return counts
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
