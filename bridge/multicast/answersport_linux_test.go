package multicast

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// A sender whose answers are read takes its port from no other program, and leaves it to none
// that comes later.
func TestASenderThatReadsAnswersHasItsPortAlone(t *testing.T) {
	rig := netlab.NewRig(t)
	b := with(bind("172.17.0.1", "iso0"), func(b *Binding) { b.Answers, b.SourcePort = "a rule", mdns })
	n, err := neighbourOn(t, rig.GW, "0.0.0.0:5353", unix.SO_REUSEADDR, unix.SO_REUSEPORT)
	if err != nil {
		t.Fatal(err)
	}
	src := waitResolve(t, rig.GW, b, "open", nil, func(_ Source, err error) bool { return err == nil })
	err = rig.GW.Do(func() error {
		s, err := Open(src)
		if err == nil {
			s.Close()
		}
		return err
	})
	if !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), "another program has the port") {
		t.Errorf("opened beside another program: %v", err)
	}
	n.close()
	s := openOn(t, rig.GW, b)
	came := make(chan string, 10)
	go func() {
		defer close(came)
		for batch := make([]Datagram, MaxReceive); ; {
			k, err := s.Receive(batch)
			if err != nil {
				return
			}
			for _, d := range batch[:k] {
				came <- string(d.Payload)
			}
		}
	}()
	if _, err := neighbourOn(t, rig.GW, "0.0.0.0:5353", unix.SO_REUSEADDR, unix.SO_REUSEPORT); err != nil {
		t.Fatal(err)
	}
	if err := rig.GW.Do(s.SharePort); err != nil {
		t.Fatal(err)
	}
	rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")).Say(s.LocalAddr(), []byte("an answer"))
	if got := <-came; got != "an answer" {
		t.Errorf("%q came", got)
	}
	s.Close()
	for range came {
	}
}
