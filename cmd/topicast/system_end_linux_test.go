package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A broker that answers nothing and an interface that takes nothing: the process ends all
// the same, before systemd's patience is over (TimeoutStopSec), and says what was left.
func TestTheProcessEndsThoughBrokerAndInterfaceHang(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSystem(t, manyLamps)
	broker := s.startBroker()
	bridge := s.startBridge()
	s.ready()
	s.shape(1250, 1600, 3000) // one message a second
	publisher := s.client("backend")
	const messages = 30
	for range messages {
		s.publish(publisher, "lamps/1", []byte(strings.Repeat("x", 1000)))
	}
	s.eventually("more wait than leave while the process ends", func() error {
		if n := s.status().Queue.Messages; n < 12 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	if err := broker.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer broker.Process.Signal(syscall.SIGCONT)
	patience, err := time.ParseDuration(unit(t)["TimeoutStopSec"][0] + "s")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := bridge.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("took %v", took)
	}
	for _, want := range []string{"the end has left something undone", "waiting=", "topicast stopped"} {
		if !strings.Contains(bridge.Output(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}
