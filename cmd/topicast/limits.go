package main

import (
	"os"
	"strconv"
	"strings"

	"topicast/bridge/multicast"
)

// limits are what the system grants a process.
type limits struct {
	descriptors   int // of files, sockets among them; 0: not known
	receiveBuffer int // bytes of a socket's receive buffer; 0: not known
}

func newLimits() limits {
	return limits{descriptors: multicast.DescriptorLimit(), receiveBuffer: mostReceiveBuffer("/proc/sys/net/core/rmem_max")}
}

// mostReceiveBuffer reads net.core.rmem_max. Only Linux has it, and not in every
// container.
func mostReceiveBuffer(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	bytes, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return bytes
}
