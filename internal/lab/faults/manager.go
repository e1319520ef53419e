//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// watchdog stands for WatchdogSec= of the unit.
const watchdog = 3 * time.Second

// A manager is the end of NOTIFY_SOCKET that systemd has (sd_notify(3)).
type manager struct {
	socket string

	mu    sync.Mutex
	beats int
	last  time.Time // when the last beat came
}

// startManager listens until ctx ends.
func startManager(ctx context.Context, socket string) (*manager, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	m := &manager{socket: socket}
	go m.listen(conn)
	return m, nil
}

func (m *manager) listen(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if strings.Contains(string(buf[:n]), "WATCHDOG=1") {
			m.mu.Lock()
			m.beats, m.last = m.beats+1, time.Now()
			m.mu.Unlock()
		}
	}
}

// watchdogBeats is how many the bridge has sent, and when the last came.
func (m *manager) watchdogBeats() (beats int, last time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.beats, m.last
}

// environment is the start of a command line that gives a program this manager.
func (m *manager) environment() []string {
	return []string{"env", "NOTIFY_SOCKET=" + m.socket, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds())}
}
