package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// A manager is the end of NOTIFY_SOCKET that systemd has.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // not TempDir, whose name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, name: filepath.Join(dir, "notify")}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.name, Net: "unixgram"}); err != nil {
		t.Skipf("no datagram sockets of this family here: %v", err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// told waits for the next message, which must match. Those that ignore matches do
// not count.
func (m *manager) told(pattern, ignore string) string {
	m.t.Helper()
	for {
		got, err := m.next(patienceOfManager)
		if err != nil {
			m.t.Fatalf("want %s: %v", pattern, err)
		}
		if regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(got) {
			return got
		}
		if ignore == "" || !regexp.MustCompile(ignore).MatchString(got) {
			m.t.Fatalf("told %q, want %s", got, pattern)
		}
	}
}

const patienceOfManager = 20 * time.Second

func (m *manager) next(within time.Duration) (string, error) {
	buffer := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	n, err := m.conn.Read(buffer)
	return string(buffer[:n]), err
}

func TestSystemdIsToldHowThingsStand(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.name)
	s := systemd{slog.New(slog.DiscardHandler)}
	s.ready(func() string { return "3 send rules,\n READY=0" })
	m.told(`READY=1\nSTATUS=3 send rules, READY=0`, "")
	s.reloading()
	m.told(`RELOADING=1\n(MONOTONIC_USEC=\d+\n)?`, "")
	s.stopping()
	m.told(`STOPPING=1\nSTATUS=.+`, "")
}

func TestNobodyIsToldWithoutSystemd(t *testing.T) {
	var log recorder
	s := systemd{log.logger()}
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	s.ready(func() string { t.Error("the status is made for nobody"); return "x" })
	s.reloading()
	s.stopping()
	s.heartbeat(t.Context(), func() bool { return true }) // it ends at once
	if got := log.String(); got != "" {
		t.Errorf("it says %s", got)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	s.ready(func() string { return "x" })
	log.has(t, `level=WARN msg="cannot tell systemd how things stand" err=.*gone`)
	t.Setenv("WATCHDOG_USEC", "soon")
	s.heartbeat(t.Context(), func() bool { return true })
	log.has(t, `level=WARN msg="cannot tell systemd that we live" err=.*WATCHDOG_USEC`)
}

func TestTheWatchdogIsFedWhileWeLive(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.name)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	const within = 200 * time.Millisecond
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(within.Microseconds(), 10))
	var dead atomic.Bool
	asked := make(chan struct{}) // of one who is dead
	alive := func() bool {
		if !dead.Load() {
			return true
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return false
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(over)
		systemd{slog.New(slog.DiscardHandler)}.heartbeat(ctx, alive)
	}()
	for range 4 {
		m.told("WATCHDOG=1", "")
	}
	if took := time.Since(began); took < 3*within/2 {
		t.Errorf("4 beats in %v, with %v for one", took, within)
	}
	dead.Store(true)
	<-asked // what it told before that has been told
	for {
		if _, err := m.next(within); err != nil {
			break
		}
	}
	for range 3 {
		<-asked
	}
	if got, err := m.next(within); err == nil {
		t.Errorf("told %q, dead", got)
	}
	dead.Store(false)
	m.told("WATCHDOG=1", "")
	cancel()
	<-over
}

// The watchdog of another process is not ours to feed.
func TestAWatchdogOfAnotherProcessIsLeftAlone(t *testing.T) {
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()+1))
	t.Setenv("WATCHDOG_USEC", "1000")
	systemd{slog.New(slog.DiscardHandler)}.heartbeat(t.Context(), func() bool { return true }) // it ends at once
}
