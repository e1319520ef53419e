package doctor

import (
	"encoding/hex"
	"os"
	"strconv"
	"strings"
)

// Counters are those of the kernel, by table and name: "Udp.RcvbufErrors",
// "TcpExt.IPReversePathFilter". Anybody may read them.
type Counters map[string]uint64

// readCounters reads /proc/net/snmp and netstat (proc(5)); without them it has none.
func readCounters() Counters {
	all := make(Counters)
	for _, file := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
		text, _ := os.ReadFile(file)
		all.read(string(text))
	}
	return all
}

// read takes in a table: of two lines each, the first has the names and the second the numbers.
func (c Counters) read(text string) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if len(names) == 0 || names[0] != fields[0] {
			names = fields
			continue
		}
		table := strings.TrimSuffix(fields[0], ":")
		for i := 1; i < min(len(fields), len(names)); i++ {
			if n, err := strconv.ParseUint(fields[i], 10, 64); err == nil {
				c[table+"."+names[i]] = n
			}
		}
		names = nil
	}
}

// grew is by how much a counter grew within the window.
func (h *Snapshot) grew(name string) uint64 {
	before, after := h.Before[name], h.After[name]
	return after - min(before, after)
}

// readDrops adds up what the sockets at each port have lost: the last column of /proc/net/udp.
func readDrops() map[uint16]uint64 {
	drops := make(map[uint16]uint64)
	for _, file := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		text, _ := os.ReadFile(file)
		addDrops(drops, string(text))
	}
	return drops
}

func addDrops(drops map[uint16]uint64, table string) {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 13 {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		b, err := hex.DecodeString(port)
		n, noNumber := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if err == nil && len(b) == 2 && noNumber == nil && n > 0 {
			drops[uint16(b[0])<<8|uint16(b[1])] += n
		}
	}
}

// readSysctl reads a number below /proc/sys/net, by its path: ipv4/conf/all/rp_filter.
func readSysctl(key string) (int, bool) {
	text, err := os.ReadFile("/proc/sys/net/" + key)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil
}
