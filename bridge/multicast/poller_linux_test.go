package multicast

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// polled reports whether a socket is among those that Go's poller waits for: for each, epoll(7) has a line
// of the number and the inode in /proc/self/fdinfo (proc_pid_fdinfo(5)).
func polled(t *testing.T, conn senderConn) bool {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ino, err := inodeOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		info, err := os.ReadFile(name)
		if err != nil {
			continue // the descriptor has gone
		}
		for line := range strings.Lines(string(info)) {
			if strings.HasPrefix(line, "tfd:") && strings.Contains(line, fmt.Sprintf(" ino:%x ", ino)) {
				return true
			}
		}
	}
	return false
}

// The kernel wakes the poller for each datagram that has left, where it knows the socket.
func TestTheKernelWakesNobodyForWhatHasLeft(t *testing.T) {
	if s := openAt(t, at127(2)); polled(t, s.conn) {
		t.Error("the poller knows the socket")
	}
	b := at127(2)
	b.SourcePort, b.Answers = 40123, "127.0.0.0/8"
	if s := openAt(t, b); !polled(t, s.conn) {
		t.Error("the poller does not know a socket that answers are read from")
	}
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	if !polled(t, r.conn) {
		t.Error("the poller does not know a socket that is read from")
	}
}

// fullSender gives a sender whose buffer has no room for a minute: its interface is slow.
func fullSender(t *testing.T) *Sender {
	t.Helper()
	rig := netlab.NewRig(t)
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	setSendBuffer(t, s, 8<<10)
	slow(t, rig.GW, "iso0", 1000, 1<<20)
	for range 1000 {
		_, err := s.Send([]Datagram{{To: rigGroup, Payload: make([]byte, 1000)}}, func(_ int, err error) { t.Error(err) })
		if errors.Is(err, ErrWouldBlock) {
			return s
		}
	}
	t.Fatal("the sender never stops: the test shows nothing")
	return nil
}

func TestWaitForRoomEndsWithTheContextAndWithClose(t *testing.T) {
	for what, tt := range map[string]struct {
		end  func(s *Sender, cancel func())
		want error
	}{
		"the context": {func(_ *Sender, cancel func()) { cancel() }, context.Canceled},
		"Close":       {func(s *Sender, _ func()) { s.Close() }, net.ErrClosed},
	} {
		t.Run(what, func(t *testing.T) {
			s := fullSender(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() { ended <- s.Wait(ctx) }()
			select {
			case err := <-ended:
				t.Fatalf("Wait ended though there is no room: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			tt.end(s, cancel)
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// Wait needs a descriptor. Where there is none it waits for a moment: the sender tries again then.
func TestWaitForRoomWithoutDescriptors(t *testing.T) {
	s := fullSender(t)
	f, err := os.Open("/dev/null") // the kernel gives out the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(f.Fd())
	f.Close()
	limitDescriptors(t, next)
	began := time.Now()
	if err := s.Wait(t.Context()); err != nil {
		t.Errorf("%v, want nil", err)
	}
	if waited := time.Since(began); waited < queuePause {
		t.Errorf("it waited for %v, want %v at least", waited, queuePause)
	}
}

// When Close returns the port is free, as another sender may need it.
func TestCloseWaitsForDuplicates(t *testing.T) {
	b := at127(2)
	b.SourcePort = 40124
	s := openAt(t, b)
	_, release, err := s.pollable()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Error("Close has returned while there is a duplicate")
		release()
		return
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	openAt(t, b)
}
