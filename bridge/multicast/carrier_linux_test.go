package multicast

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// tells checks what Carrier says: "" is nothing.
func (s *Sender) tells(t *testing.T, when, want string) {
	t.Helper()
	switch err := s.Carrier(); {
	case want == "" && err != nil:
		t.Errorf("%s: %v", when, err)
	case want != "" && (err == nil || err.Error() != want || !errors.Is(err, ErrPending)):
		t.Errorf("%s: %v, want %q", when, err, want)
	}
}

// settled waits until Carrier has nothing to say any more.
func (s *Sender) settled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); s.Carrier() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still %v", s.Carrier())
		}
	}
}

func TestCarrierSaysWhatBecameOfTheInterface(t *testing.T) {
	rig := netlab.NewRig(t)
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	other := openOn(t, rig.Lan, with(bind("10.0.0.1", "eth0"), nil))
	s.tells(t, "at first", "")
	rig.GW.PullCable("iso0")
	s.tells(t, "without a cable", "interface iso0 has no carrier")
	s.tells(t, "asked again", "interface iso0 has no carrier")
	rig.GW.PushCable("iso0")
	s.settled(t)
	rig.GW.Down("iso0")
	s.tells(t, "set down", "interface iso0 is down")
	rig.GW.Up("iso0")
	s.settled(t)
	rig.GW.Delete("iso0")
	s.tells(t, "deleted", "interface iso0 is gone")
	other.tells(t, "in another network namespace", "")
}

// A carrier that is back by the time of the question took datagrams with it.
func TestCarrierSaysOnceThatItWasAway(t *testing.T) {
	rig := netlab.NewRig(t)
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	witness := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	rig.GW.PullCable("iso0")
	rig.GW.PushCable("iso0")
	witness.settled(t)
	s.tells(t, "afterwards", "interface iso0 had no carrier for a moment")
	s.tells(t, "from then on", "")
}

// The kernel tells of an ordinary card's carrier once a second at most.
func TestCarrierDoesNotWaitForTheKernelToTell(t *testing.T) {
	h := netlab.New(t).Host("h")
	setCarrier := newCard(t, h, "card0")
	h.Addr("card0", "172.17.0.1/16")
	h.Up("card0")
	s := openOn(t, h, with(bind("172.17.0.1", "card0"), nil))
	for range 5 {
		setCarrier(0)
		s.tells(t, "off", "interface card0 has no carrier")
		setCarrier(1)
		s.settled(t)
	}
}

// newCard makes an interface that is no end of a pair, so that the kernel treats it
// as it does a card. What it returns plugs its cable in, or pulls it.
func newCard(t *testing.T, h *netlab.Host, name string) (setCarrier func(on int)) {
	t.Helper()
	card, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	card.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	fd := -1
	err = h.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, card)
	})
	if err != nil {
		netlab.Skip(t, "no interface with a carrier of its own (/dev/net/tun): %v", err)
	}
	return func(on int) {
		t.Helper()
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, on); err != nil {
			t.Fatalf("set the carrier (TUNSETCARRIER): %v", err)
		}
	}
}

func TestSendersOfANamespaceShareOneAsker(t *testing.T) {
	rig := netlab.NewRig(t)
	var all []*Sender
	for range 3 {
		all = append(all, openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil)))
	}
	other := openOn(t, rig.Lan, with(bind("10.0.0.1", "eth0"), nil))
	shared := all[0].carrier.querier
	if shared != all[1].carrier.querier || shared != all[2].carrier.querier || shared == other.carrier.querier {
		t.Error("senders of one network namespace are to share a querier, those of two are not")
	}
	for range 2 { // closing again does nothing
		all[0].Close()
		all[1].Close()
	}
	rig.GW.PullCable("iso0")
	all[2].tells(t, "the last that is left", "interface iso0 has no carrier")
	all[2].Close()
	if shared.fd != -1 || queriers.byNamespace[shared.namespace] != nil {
		t.Error("nobody uses the querier, and it is open")
	}
	other.tells(t, "the other", "")
}

// What cannot be asked must not keep anything from being sent.
func TestAQuestionThatFailsTellsNothing(t *testing.T) {
	s := openAt(t, at127(2))
	s.tells(t, "loopback", "")
	s.Close()
	s.tells(t, "closed", "")
	s.carrier.querier = nil
	s.tells(t, "nobody to ask", "")
	for what, message := range map[string][]byte{
		"refused":   {36, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"cut short": {20, 0, 0, 0, unix.RTM_NEWLINK, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		"empty":     {16, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
	} {
		if got, ok := readResponse(message); ok {
			t.Errorf("%s: taken for %+v", what, got)
		}
	}
}

func TestAnAnswerToAnotherQuestionIsPassedOver(t *testing.T) {
	s := openAt(t, at127(2))
	var stale [requestSize]byte
	putRequest(&stale, 0, 1<<30) // an interface that is not there
	if _, err := unix.Write(s.carrier.querier.fd, stale[:]); err != nil {
		t.Fatal(err)
	}
	s.tells(t, "after a stale answer", "")
}
