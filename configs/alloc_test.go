package configs

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
)

// What runs is the table and the sections; the configuration, which knows the
// place of each key, is done with once they are checked.
func TestTableAndSectionsKeepNothingOfTheFile(t *testing.T) {
	const (
		size = 4 << 20
		head = "broker:\n  url: mqtt://broker.example:1884\n  client_id: bridge-1\n"
		tail = "receive:\n  - name: meters\n    group: 239.12.255.254:9522\n    interface: iso0\n" +
			"    source: 192.0.2.77\n    topic: meters/{source}/raw\n"
	)
	data := slices.Concat([]byte(head), rulesOf(10, ".yaml"), []byte(tail), bytes.Repeat([]byte("# a comment\n"), size/12))
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	c, err := load("x.yaml", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	table, broker := c.Table, c.Broker
	c = nil
	if after := heap(); after > before+size/2 {
		t.Errorf("%d bytes more than before", after-before)
	}
	runtime.KeepAlive(table)
	runtime.KeepAlive(broker)
	runtime.KeepAlive(data)
}
