package multicast

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// Senders that share a check ask the kernel once for what one call may carry, and whoever has another one,
// or has had to wait, asks anew.
func TestSendersThatShareACheckAskForAddressesOnce(t *testing.T) {
	rig := netlab.NewRig(t)
	first := openOn(t, rig.GW, with(bind("10.0.0.2", "priv0"), nil))
	then := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	one := []Datagram{{To: rigGroup, Payload: []byte("x")}}
	many := make([]Datagram, maxDatagrams-len(one))
	for i := range many {
		many[i] = one[0]
	}
	sends := func(s *Sender, check *AddressCheck, batch []Datagram, want bool) {
		t.Helper()
		n, err := s.SendChecked(check, batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) })
		if took := n == len(batch) && err == nil; took != want || !want && (n != 0 || !errors.Is(err, ErrPending)) {
			t.Errorf("disposed of %d of %d, %v", n, len(batch), err)
		}
	}
	var has, spent, contended AddressCheck
	sends(first, &has, one, true)
	sends(first, &spent, one, true)
	sends(first, &spent, many, true)
	sends(first, &contended, one, true)
	rig.GW.DelAddr("iso0", "172.17.0.1/16")
	rig.GW.Addr("priv0", "172.17.0.1/16")
	sends(then, &has, one, true) // as if it were in the same call
	sends(then, &spent, one, false)
	elsewhere := openOn(t, rig.Lan, with(bind("10.0.0.1", "eth0"), nil)) // in a network namespace of its own
	rig.Lan.DelAddr("eth0", "10.0.0.1/24")
	rig.Lan.Addr("lo", "10.0.0.1/32")
	sends(elsewhere, &has, one, false)
	has = AddressCheck{}
	sends(first, &has, one, true)
	var fresh AddressCheck
	sends(then, &fresh, one, false)
	sends(then, &has, one, false) // it has learned of it from the others, without asking
	sends(then, nil, one, false)
	sends(first, &spent, one, true)

	rig.GW.DelAddr("priv0", "172.17.0.1/16")
	rig.GW.Addr("iso0", "172.17.0.1/16")
	then.awaitAddress(t)
	sends(first, &contended, one, true)
	rig.GW.DelAddr("iso0", "172.17.0.1/16")
	rig.GW.Addr("priv0", "172.17.0.1/16")
	then.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		sends(then, &contended, one, false)
	}()
	awaitLocked(t, "SendChecked")
	then.mu.Unlock()
	<-done
	if contended.left != maxDatagrams-1 {
		t.Errorf("after it has waited the check holds for %d datagrams", contended.left)
	}
}

// awaitLocked waits until a function waits for a mutex.
func awaitLocked(t *testing.T, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if head, _, _ := strings.Cut(one, "\n"); strings.Contains(head, "sync.Mutex.Lock") && strings.Contains(one, function) {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not wait", function)
		}
	}
}
