package multicast

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// openAt opens a sender at a source of this host.
func openAt(t testing.TB, b Binding) *Sender {
	t.Helper()
	src, err := b.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func at127(host byte) Binding {
	return Binding{Source: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, 0, host}), 32), TTL: 1, Loopback: true, Fragment: true}
}

// hear joins group on lo, at a port of the kernel's choice if it has none.
func hear(t testing.TB, group string, o ReceiverOptions) *Receiver {
	t.Helper()
	o.Group = netip.MustParseAddrPort(group)
	r, err := listen(o, &net.Interface{Index: 1, Name: "lo"}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// next returns the next n datagrams, with payloads of their own.
func next(t testing.TB, r *Receiver, n int) []Datagram {
	t.Helper()
	r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var all []Datagram
	batch := make([]Datagram, 40)
	for len(all) < n {
		k, err := r.Receive(batch[:min(len(batch), n-len(all))])
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(all), n, err)
		}
		for _, d := range batch[:k] {
			d.Payload = bytes.Clone(d.Payload)
			all = append(all, d)
		}
	}
	return all
}

var marks atomic.Int64

// quiet fails the test if r has heard more than it handed out. s is a sender
// that it hears: what comes before its mark is too much.
func quiet(t testing.TB, r *Receiver, s *Sender) {
	t.Helper()
	const end = "the end, "
	mark := fmt.Sprint(end, marks.Add(1))
	send(t, s, r.Group(), mark)
	for {
		d := next(t, r, 1)[0]
		if string(d.Payload) == mark {
			return
		}
		if strings.HasPrefix(string(d.Payload), end) {
			continue // for another receiver of the group
		}
		t.Errorf("%s heard %q from %s", r.Group(), d.Payload, d.Source)
	}
}

// send sends payloads to a group and fails the test unless the kernel takes all.
func send(t testing.TB, s *Sender, group netip.AddrPort, payloads ...string) {
	t.Helper()
	var batch []Datagram
	for _, p := range payloads {
		batch = append(batch, Datagram{To: group, Payload: []byte(p)})
	}
	n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) })
	if n != len(batch) || err != nil {
		t.Fatalf("sent %d of %d: %v", n, len(batch), err)
	}
}

// contextFor ends long before the test binary would.
func contextFor(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Minute)
}

func payloads(ds []Datagram) []string {
	var ps []string
	for _, d := range ds {
		ps = append(ps, string(d.Payload))
	}
	return ps
}

var cmpAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
