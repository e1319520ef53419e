package send_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func hostError(to, from, text string) multicast.HostError {
	return multicast.HostError{To: netip.MustParseAddrPort(to), From: netip.MustParseAddr(from), Text: text}
}

// An ICMP error is shown with its host, and stops nothing: it may be forged.
func TestAnICMPErrorIsShownAndStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &logged{Handler: slog.DiscardHandler}
		b, left := timing(t, rigOptions{Logger: slog.New(told)},
			fake.SendRule(t, "one", "one", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.7:1010")),
			fake.SendRule(t, "many", "q/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.{id}:1010")))
		send := func() {
			b.send.Handle([]session.Message{fake.Message("one", "x", 1), ask(7, "x"), ask(8, "x")})
		}
		send()
		s := b.network.LastSocket()
		s.Errors = []multicast.HostError{
			hostError("172.17.9.7:1010", "172.17.9.7", "port unreachable"),
			hostError("172.17.9.7:1010", "172.17.9.7", "port unreachable"),
			hostError("172.17.9.8:1010", "172.17.0.254", "host unreachable"),
			hostError("172.17.9.9:1010", "172.17.9.9", "port unreachable"), // nothing was sent there
			hostError("172.17.9.7:1011", "172.17.9.7", "port unreachable"), // nor there
			hostError("172.17.9.7:1010", "172.17.0.1", "host unreachable"), // the kernel's own word
		}
		b.send.Inspect()
		send()
		all := b.Status().Rules
		if got := left.lines(); len(got) != 6 {
			t.Errorf("sent %q", got)
		}
		want := "172.17.9.7:1010 does not take what is sent to it: 172.17.9.7 says port unreachable (ICMP)"
		if r := all[0]; r.State != account.StateDegraded || r.Reason != want || r.ICMPErrors != 2 || len(r.HostErrors) != 1 || r.HostErrors[0].Count != 2 || r.Sent != 2 {
			t.Errorf("%+v", r)
		}
		if r := all[1]; r.State != account.StateUp || r.ICMPErrors != 3 || fmt.Sprint(r.HostErrors[0].Host, r.HostErrors[0].Error, r.HostErrors[0].From) != "172.17.9.7:1010port unreachable172.17.9.7" ||
			r.HostErrors[1].From != "172.17.0.254" || r.Sent != 4 {
			t.Errorf("%+v", r)
		}
		told.mu.Lock()
		if len(told.lines) != 2 { // one a rule
			t.Errorf("logged %q", told.lines)
		}
		told.mu.Unlock()
		time.Sleep(time.Minute)
		if r := b.Status().Rules[0]; r.State != account.StateUp || len(r.HostErrors) != 1 {
			t.Errorf("after a minute: %+v", r)
		}
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "one", "one", "239.1.1.1:5000", fake.ToHost(t, "172.17.9.6:1010"))}, nil)
		if r := b.Status().Rules[0]; r.State != account.StateUp || len(r.HostErrors) != 0 || r.ICMPErrors != 2 {
			t.Errorf("with another host: %+v", r)
		}
	})
}

func TestTheHostsWhoseICMPErrorsAreRememberedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, fake.SendRule(t, "r", "q/{a}/{b}", "239.1.1.1:5000", fake.ToHost(t, "172.17.{a}.{b}:1010")))
		for i := range send.MaxHostErrors + 50 {
			host := fmt.Sprintf("%d/%d", 1+i/250, 1+i%250)
			b.send.Handle([]session.Message{fake.Message("q/"+host, "x", 1)})
			a := "172.17." + strings.ReplaceAll(host, "/", ".")
			b.network.LastSocket().Errors = []multicast.HostError{hostError(a+":1010", a, "port unreachable")}
			b.send.Inspect()
			time.Sleep(time.Millisecond)
		}
		r := b.Status().Rules[0]
		if n := b.send.HostErrorsKept("r"); n != send.MaxHostErrors || r.ICMPErrors != send.MaxHostErrors+50 || len(r.HostErrors) != send.MaxHostsShown {
			t.Errorf("%d are kept of %d, %d are shown", n, r.ICMPErrors, len(r.HostErrors))
		}
		if last := send.MaxHostErrors + 49; r.HostErrors[0].Host != fmt.Sprintf("172.17.%d.%d:1010", 1+last/250, 1+last%250) {
			t.Errorf("first shown is %+v", r.HostErrors[0])
		}
	})
}

// A host that could not be reached, and answers again, is held against nobody any more.
func TestWhatWasSaidOfAHostIsForgottenOnceItAnswersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		b := hostRig(t, l, rigOptions{}, fake.SendRule(t, "lamp", "lamp", "239.1.1.1:5000", fake.ToHost(t, "172.17.1.7:5000")))
		send := func(n int) {
			for range n {
				b.send.Handle([]session.Message{fake.Message("lamp", "x", 1)})
				time.Sleep(500 * time.Millisecond)
			}
		}
		send(20)
		l.sockets[len(l.sockets)-1].Errors = []multicast.HostError{hostError("172.17.1.7:5000", "172.17.0.254", "host unreachable")}
		b.send.Inspect()
		if r := b.Status().Rules[0]; len(r.HostErrors) != 1 || r.Down != 1 {
			t.Errorf("%+v", r)
		}
		l.power("172.17.1.7", true)
		send(3)
		if r := b.Status().Rules[0]; r.State != account.StateUp || len(r.HostErrors) != 0 || r.ICMPErrors != 1 {
			t.Errorf("once it answers: %+v", r)
		}
	})
}
