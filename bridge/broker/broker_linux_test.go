package broker_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/broker"
)

// The server inside speaks other protocols too; MQTT on the given address is
// all that may be reached.
func TestListensForMQTTOnly(t *testing.T) {
	before := listening(t)
	b := start(t, broker.Options{Listen: "127.0.0.2:0"})

	var got []string
	for _, addr := range listening(t) {
		if !strings.Contains(fmt.Sprint(before), addr) {
			got = append(got, "mqtt://"+addr)
		}
	}
	if diff := cmp.Diff([]string{b.URL()}, got); diff != "" {
		t.Errorf("listening (-want +got):\n%s", diff)
	}
}

// listening returns the addresses this process accepts TCP connections on.
func listening(t *testing.T) []string {
	t.Helper()
	mine := map[string]bool{} // "socket:[12345]"
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			mine[target] = true
		}
	}

	var addrs []string
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if os.IsNotExist(err) { // a kernel without IPv6
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// proc_net_tcp(5): sl local rem state … inode; 0A is TCP_LISTEN.
			field := strings.Fields(lines.Text())
			if len(field) < 10 || field[3] != "0A" || !mine["socket:["+field[9]+"]"] {
				continue
			}
			addrs = append(addrs, decodeAddr(t, field[1]))
		}
		f.Close()
	}
	return addrs
}

// decodeAddr reads "0200007F:9C40", an IPv4 address in host byte order, and
// leaves an IPv6 one as it is.
func decodeAddr(t *testing.T, s string) string {
	t.Helper()
	var ip uint32
	var port uint16
	if len(s) != len("0200007F:9C40") {
		return s
	}
	if _, err := fmt.Sscanf(s, "%08X:%04X", &ip, &port); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", byte(ip), byte(ip>>8), byte(ip>>16), byte(ip>>24), port)
}
