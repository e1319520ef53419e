package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
	"topicast/internal/lab/netlab"
)

// scripted is a sender that answers as told, one answer a call.
type scripted struct {
	answers []error // nil: taken; wrapping refusal: charged to the datagram
	waits   int
}

type refusal struct{ error }

func (s *scripted) Send(batch []multicast.Datagram, failed func(int, error)) (int, error) {
	err := s.answers[0]
	s.answers = s.answers[1:]
	if r, ok := err.(refusal); ok {
		failed(0, r.error)
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	return len(batch), nil
}

func (s *scripted) Wait(ctx context.Context) error {
	s.waits++
	return ctx.Err()
}

func TestSendWaitsForRoomAndExplainsRefusals(t *testing.T) {
	full := fmt.Errorf("send: %w", multicast.ErrNoBuffer)
	for _, c := range []struct {
		name    string
		answers []error
		waits   int
		want    string // what is printed; "" is a success
	}{
		{"taken", []error{nil}, 0, ""},
		{"after waiting for room", []error{multicast.ErrWouldBlock, full, nil}, 2, ""},
		{"a firewall", []error{refusal{os.ErrPermission}}, 0,
			"topicast: error: permission denied\nhint: allow udp to 239.1.2.3, port 5000, in the output chain of this host's firewall\n"},
		{"too long", []error{refusal{multicast.ErrTooLong}}, 0, "topicast: error: too long\n"},
		{"the interface goes away", []error{multicast.ErrWouldBlock, multicast.ErrPending}, 1,
			"topicast: error: pending\nhint: topicast interfaces lists what there is now\n"},
		{"anything else", []error{io.ErrNoProgress}, 0, "topicast: error: " + io.ErrNoProgress.Error() + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scripted{answers: c.answers}
			err := sendOne(t.Context(), s, multicast.Datagram{To: netip.MustParseAddrPort("239.1.2.3:5000")})
			var b strings.Builder
			conclude(&b, newRootCommand(), err)
			if b.String() != c.want || s.waits != c.waits || len(s.answers) != 0 {
				t.Errorf("%d waits, %d answers left:\n%swant %d waits:\n%s", s.waits, len(s.answers), b.String(), c.waits, c.want)
			}
		})
	}
}

func TestTheFlagsOfSendAreTheKeysOfARule(t *testing.T) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(interfaces, func(i multicast.Interface) bool { return i.Loopback && i.Up })
	if i < 0 {
		netlab.Skip(t, "no loopback interface is up")
	}
	lo := interfaces[i].Name
	local := netip.MustParsePrefix("127.0.0.1/32")
	plain := multicast.Binding{Source: local, TTL: 1, Loopback: true, Fragment: true}
	for _, c := range []struct {
		args []string
		want func(b *multicast.Binding)
	}{
		{nil, func(*multicast.Binding) {}},
		{[]string{"--interface", lo}, func(b *multicast.Binding) { b.Interface = lo }},
		{[]string{"--source", "127.0.0.0/8"}, func(b *multicast.Binding) { b.Source = netip.MustParsePrefix("127.0.0.0/8") }},
		{[]string{"--source-port", "5001"}, func(b *multicast.Binding) { b.SourcePort = 5001 }},
		{[]string{"--ttl", "255"}, func(b *multicast.Binding) { b.TTL = 255 }},
		{[]string{"--dscp", "EF"}, func(b *multicast.Binding) { b.DSCP = 46 }},
		{[]string{"--no-loopback"}, func(b *multicast.Binding) { b.Loopback = false }},
	} {
		o := newSendOptions()
		cmd := &cobra.Command{}
		o.addFlags(cmd)
		if err := cmd.ParseFlags(append([]string{"--source", "127.0.0.1"}, c.args...)); err != nil {
			t.Fatal(err)
		}
		group, source, err := o.destination("239.1.2.3:5000")
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		want := plain
		c.want(&want)
		if source.Binding != want || source.Interface != lo || group != netip.MustParseAddrPort("239.1.2.3:5000") {
			t.Errorf("%v: %+v to %s, want %+v", c.args, source, group, want)
		}
	}
}

func TestSendStopsWaitingAtCtrlC(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := sendOne(ctx, &scripted{answers: []error{multicast.ErrWouldBlock}}, multicast.Datagram{})
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
}

// full never has room.
type full struct{ sent int }

func (s *full) Send([]multicast.Datagram, func(int, error)) (int, error) {
	s.sent++
	return 0, fmt.Errorf("send: %w", multicast.ErrNoBuffer)
}

func (s *full) Wait(ctx context.Context) error { time.Sleep(time.Millisecond); return ctx.Err() }

func TestSendEndsWhereThereIsNeverRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, s := time.Now(), &full{}
		err := sendOne(t.Context(), s, multicast.Datagram{})
		want := "not sent, as for 5s there was no room: send: the interface's queue is full"
		if took := time.Since(began); err == nil || err.Error() != want || took < roomPatience || took > roomPatience+time.Second || s.sent < 1000 {
			t.Errorf("after %v and %d tries: %v", took, s.sent, err)
		}
	})
}

func TestNothingIsSentFromAnAddressThatWouldBeChanged(t *testing.T) {
	for _, c := range []struct {
		result multicast.ProbeResult
		stderr string
	}{
		{multicast.ProbeVerified, ""},
		{multicast.ProbeRewritten, "topicast: error: not sent: why\nhint: --no-verify sends all the same\n"},
		{multicast.ProbeRefused, "topicast: error: not sent: why\nhint: --no-verify tries all the same\n"},
		{multicast.ProbeUnheard, "topicast: warning: the source is not verified: why\n"},
		{multicast.ProbeSkipped, "topicast: warning: the source is not verified: why\n"},
	} {
		var b strings.Builder
		conclude(&b, newRootCommand(), judge(multicast.Probe{Result: c.result, Detail: "why"}, &b))
		if b.String() != c.stderr {
			t.Errorf("%v: %q, want %q", c.result, b.String(), c.stderr)
		}
	}
}

func TestReadingAPayloadEndsAtCtrlC(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, writer := io.Pipe()
	defer writer.Close()
	if _, err := readPayload(ctx, "-", never); err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
}

func TestErrorsOfReadingAPayloadAreTold(t *testing.T) {
	broken := errors.New("broken")
	if _, err := readPayload(t.Context(), "-", io.MultiReader(strings.NewReader("half"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
