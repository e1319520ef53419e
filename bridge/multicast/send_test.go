package multicast

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"
)

// icmp is an error that the kernel reports, and has from the network.
type icmp struct{ syscall.Errno }

// lateICMP is one that the kernel no longer holds: it was taken out before it was reported.
type lateICMP struct{ syscall.Errno }

// kernel is a scripted sendmmsg: it takes messages in order until one is
// refused, and reports as WriteBatch does, so that the error of any message but
// the first is lost.
type kernel struct {
	refuse func(payloads string) error // "b", or of a run "b+c"; nil takes all
	most   int                         // messages to take in one call; 0: any number
	strays int                         // ICMP errors that it holds
	late   bool                        // it has just reported one that it does not hold
	calls  []string                    // the messages taken in each call: "a b+c"
	taken  []string                    // the datagrams taken
}

func (k *kernel) write(ms []ipv4.Message) (int, error) {
	var call []string
	defer func() { k.calls = append(k.calls, strings.Join(call, " ")) }()
	for i, m := range ms {
		var payloads []string
		for _, b := range m.Buffers {
			payloads = append(payloads, string(b))
		}
		name := strings.Join(payloads, "+")
		if k.refuse != nil {
			err := k.refuse(name)
			if stray, ok := errors.AsType[icmp](err); ok && i == 0 {
				k.strays++
				err = stray.Errno
			}
			late, ok := errors.AsType[lateICMP](err)
			if k.late = ok && i == 0; k.late {
				err = late.Errno
			}
			if err != nil && i == 0 {
				return -1, &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendmmsg", err)}
			} else if err != nil {
				return i, nil
			}
		}
		call = append(call, name)
		k.taken = append(k.taken, payloads...)
		if len(call) == k.most {
			return len(call), nil
		}
	}
	return len(ms), nil
}

// sender returns a sender on top of k; segment as in Sender.
func (k *kernel) sender(segment int) *Sender {
	return &Sender{
		source: Source{Binding: Binding{TTL: 1}, Interface: "iso0", Index: 2, Addr: netip.MustParseAddr("172.17.0.1"), MTU: 1500},
		write:  k.write,
		icmpErrorOf: func(error) (may, is bool) {
			n := k.strays
			k.strays = 0
			return n > 0 || k.late, n > 0
		},
		whole:   MaxPayload,
		segment: segment,
	}
}

// refusing returns a script: the errors of a message in the order they come;
// the last stays.
func refusing(script map[string][]error) func(string) error {
	return func(name string) error {
		errs := script[name]
		if len(errs) == 0 {
			return nil
		}
		if len(errs) > 1 {
			script[name] = errs[1:]
		}
		return errs[0]
	}
}

// batchOf makes a batch of one-word payloads, all to one group.
func batchOf(payloads string) []Datagram {
	var batch []Datagram
	for _, p := range strings.Fields(payloads) {
		batch = append(batch, Datagram{To: netip.MustParseAddrPort("239.1.2.3:5000"), Payload: []byte(p)})
	}
	return batch
}

// outcome is what Send did with a batch.
type outcome struct {
	N      int
	Failed []int
	Taken  string
}

func sendAll(s *Sender, k *kernel, batch []Datagram) (outcome, error) {
	var o outcome
	n, err := s.Send(batch, func(i int, err error) { o.Failed = append(o.Failed, i) })
	o.N, o.Taken = n, strings.Join(k.taken, " ")
	return o, err
}

func TestAnUndeliverableDatagramCostsItselfOnly(t *testing.T) {
	eperm := []error{syscall.EPERM}
	for _, tt := range []struct {
		name   string
		script map[string][]error
		most   int
		want   outcome
	}{
		{"none", nil, 0, outcome{5, nil, "a b c d e"}},
		{"the first", map[string][]error{"a": eperm}, 0, outcome{5, []int{0}, "b c d e"}},
		{"one in the middle", map[string][]error{"c": eperm}, 0, outcome{5, []int{2}, "a b d e"}},
		{"neighbours", map[string][]error{"c": eperm, "d": eperm}, 0, outcome{5, []int{2, 3}, "a b e"}},
		{"the last", map[string][]error{"e": eperm}, 0, outcome{5, []int{4}, "a b c d"}},
		{"all", map[string][]error{"a": eperm, "b": eperm, "c": eperm, "d": eperm, "e": eperm}, 0, outcome{5, []int{0, 1, 2, 3, 4}, ""}},
		{"none, and short counts", nil, 1, outcome{5, nil, "a b c d e"}},
		{"one in the middle, and short counts", map[string][]error{"c": eperm}, 2, outcome{5, []int{2}, "a b d e"}},
		{"none: an ICMP error of somebody else", map[string][]error{"c": {icmp{syscall.ECONNREFUSED}, nil}}, 0, outcome{5, nil, "a b c d e"}},
		{"none: two of them", map[string][]error{"a": {icmp{syscall.EHOSTUNREACH}, nil}, "c": {icmp{syscall.ENETUNREACH}, nil}}, 0, outcome{5, nil, "a b c d e"}},
		{"none: many in a row", map[string][]error{"c": append(slices.Repeat([]error{icmp{syscall.EHOSTUNREACH}}, mostTries-1), nil)}, 0, outcome{5, nil, "a b c d e"}},
		{"none: an ICMP error that is held no more", map[string][]error{"a": {lateICMP{syscall.ECONNREFUSED}, nil}, "c": {lateICMP{syscall.EHOSTUNREACH}, lateICMP{syscall.EHOSTUNREACH}, nil}}, 0, outcome{5, nil, "a b c d e"}},
		{"one, of which the host itself says what an ICMP error may say", map[string][]error{"c": {lateICMP{syscall.EACCES}}}, 0, outcome{5, []int{2}, "a b d e"}},
		{"one, with an ICMP error before", map[string][]error{"c": {icmp{syscall.ECONNREFUSED}, syscall.EINVAL}}, 0, outcome{5, []int{2}, "a b d e"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{refuse: refusing(tt.script), most: tt.most}
			got, err := sendAll(k.sender(0), k, batchOf("a b c d e"))
			if err != nil {
				t.Errorf("error %v", err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
		})
	}
}

// One call to the kernel is bounded: nobody else gets the processor meanwhile.
func TestACallCarriesABoundedNumberOfDatagrams(t *testing.T) {
	k := &kernel{}
	s := k.sender(1472)
	calls := 0
	s.write = func(ms []ipv4.Message) (int, error) {
		calls++
		n := 0
		for i := range ms {
			n += len(ms[i].Buffers)
		}
		if n >= maxDatagrams+maxSegments {
			t.Errorf("call %d: %d datagrams", calls, n)
		}
		return k.write(ms)
	}
	batch := slices.Repeat(batchOf("a b c d e"), 2*maxDatagrams)
	n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) })
	if n != len(batch) || err != nil || calls < 10 || calls > 11 {
		t.Errorf("%d sent in %d calls, %v", n, calls, err)
	}
}

func TestASystemThatDoesNothingIsNotAskedForEver(t *testing.T) {
	k := &kernel{}
	s := k.sender(0)
	s.write = func(ms []ipv4.Message) (int, error) {
		if string(ms[0].Buffers[0]) == "b" {
			return 0, nil
		}
		return k.write(ms[:1])
	}
	var failed error
	n, err := s.Send(batchOf("a b c"), func(i int, err error) { failed = fmt.Errorf("%d: %w", i, err) })
	if n != 3 || err != nil || strings.Join(k.taken, "") != "ac" || !errors.Is(failed, io.ErrNoProgress) {
		t.Errorf("got %d, %v, taken %v, failed %v", n, err, k.taken, failed)
	}
}

func TestSendStopsWhereTheSocketDoes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cause  error
		want   error
		wanted outcome
	}{
		{"the send buffer is full", syscall.EAGAIN, ErrWouldBlock, outcome{2, nil, "a b"}},
		{"the interface's queue is full", syscall.ENOBUFS, ErrNoBuffer, outcome{2, nil, "a b"}},
		{"out of memory", syscall.ENOMEM, ErrNoBuffer, outcome{2, nil, "a b"}},
		{"the address is gone", syscall.ENETUNREACH, ErrPending, outcome{2, nil, "a b"}},
		{"the interface is gone", syscall.ENODEV, ErrPending, outcome{2, nil, "a b"}},
		{"another goroutine's Wait is ending", os.ErrDeadlineExceeded, ErrWouldBlock, outcome{2, nil, "a b"}},
		{"closed", net.ErrClosed, net.ErrClosed, outcome{2, nil, "a b"}},
		{"ICMP errors come without end", icmp{syscall.ENETUNREACH}, ErrWouldBlock, outcome{2, nil, "a b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := true
			k := &kernel{refuse: func(p string) error {
				if full && p == "c" {
					return tt.cause
				}
				return nil
			}}
			s := k.sender(0)
			batch := batchOf("a b c d e")
			got, err := sendAll(s, k, batch)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v; want %v", err, tt.want)
			}
			if d := cmp.Diff(tt.wanted, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			// What was taken is not sent again, what was not is not forgotten.
			full = false
			got, err = sendAll(s, k, batch[got.N:])
			if d := cmp.Diff(outcome{3, nil, "a b c d e"}, got); d != "" || err != nil {
				t.Errorf("repeated: %v, want -, got +:\n%s", err, d)
			}
		})
	}
}

func TestSendRefusesWithoutAskingTheKernel(t *testing.T) {
	k := &kernel{refuse: func(p string) error {
		if p != "ok" {
			t.Errorf("the kernel was asked to send %.30q", p)
		}
		return nil
	}}
	to := netip.MustParseAddrPort
	batch := []Datagram{
		{To: to("239.1.2.3:5000"), Payload: make([]byte, MaxPayload+1)},
		{To: to("[ff02::1]:5000"), Payload: []byte("IPv6")},
		{To: to("[::ffff:239.1.2.3]:5000"), Payload: []byte("IPv4 in IPv6's clothes")},
		{To: to("239.1.2.3:5000"), Payload: []byte("ok")},
		{To: to("239.1.2.3:0"), Payload: []byte("no port")},
		{To: to("[ff02::1%iso0]:5000"), Payload: []byte("a zone")},
		{To: to("172.17.0.50:5000"), Payload: []byte("unicast")},
		{To: to("255.255.255.255:5000"), Payload: []byte("broadcast")},
		{Payload: []byte("nowhere")},
	}
	want := []string{"0: too long", "1: not a group", "2: not a group", "4: not a group", "5: not a group", "6: not a group", "7: not a group", "8: not a group"}
	var got []string
	n, err := k.sender(1472).Send(batch, func(i int, err error) {
		for _, is := range []error{ErrTooLong, ErrBadGroup} {
			if errors.Is(err, is) {
				got = append(got, fmt.Sprintf("%d: %v", i, is))
			}
		}
	})
	if n != len(batch) || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	if d := cmp.Diff([]string{"ok"}, k.taken); d != "" {
		t.Errorf("taken: want -, got +:\n%s", d)
	}
}

func TestFailuresSayWhatWasTriedAndWhy(t *testing.T) {
	for _, tt := range []struct {
		cause error
		want  string
		is    error
	}{
		{syscall.EPERM, "send to 239.1.2.3:5000 from 172.17.0.1 on iso0: a firewall on this host forbids it: operation not permitted", os.ErrPermission},
		{syscall.EMSGSIZE, "send 1 bytes to 239.1.2.3:5000 from 172.17.0.1 on iso0: too long for its MTU of 1500 bytes: message too long", ErrTooLong},
		{syscall.EINVAL, "send 1 bytes to 239.1.2.3:5000 from 172.17.0.1 on iso0: invalid argument", syscall.EINVAL},
	} {
		k := &kernel{refuse: func(string) error { return tt.cause }}
		var got error
		k.sender(0).Send(batchOf("a"), func(_ int, err error) { got = err })
		if got == nil || got.Error() != tt.want || !errors.Is(got, tt.is) {
			t.Errorf("got  %v\nwant %s", got, tt.want)
		}
	}
}

func TestRunsLeaveAsOneEntry(t *testing.T) {
	k := &kernel{}
	batch := batchOf("aa bb c dd ee ff gggg h")
	batch[4].To = netip.MustParseAddrPort("239.1.2.4:5000")
	batch = append(batch, Datagram{To: batch[0].To}, Datagram{To: batch[0].To}) // empty ones
	got, err := sendAll(k.sender(3), k, batch)
	if d := cmp.Diff(outcome{10, nil, "aa bb c dd ee ff gggg h  "}, got); d != "" || err != nil {
		t.Errorf("%v, want -, got +:\n%s", err, d)
	}
	// A shorter one ends a run, another group is another run, what is too long
	// for a segment or empty goes alone.
	if d := cmp.Diff([]string{"aa+bb+c dd ee ff gggg h  "}, k.calls); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	// A datagram that is refused does not end them for the rest.
	k = &kernel{refuse: refusing(map[string][]error{"c": {syscall.EPERM}})}
	sendAll(k.sender(1), k, batchOf("aa b bb c ee f g"))
	if d := cmp.Diff([]string{"aa b bb", "", "ee f+g"}, k.calls); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

func TestARunHasBounds(t *testing.T) {
	of := func(n, size int) []Datagram {
		batch := make([]Datagram, n)
		for i := range batch {
			batch[i] = Datagram{To: netip.MustParseAddrPort("239.1.2.3:5000"), Payload: make([]byte, size)}
		}
		return batch
	}
	for _, tt := range []struct {
		name    string
		batch   []Datagram
		segment int
		want    int
	}{
		{"one", of(1, 10), 1472, 1},
		{"two", of(2, 10), 1472, 2},
		{"no segmentation", of(2, 10), 0, 1},
		{"64 segments", of(100, 10), 1472, 64},
		{"longest segment", of(3, 1472), 1472, 3},
		{"above the longest segment", of(3, 1473), 1472, 1},
		{"65,507 bytes in all", of(64, 1472), 1472, 44}, // 44*1472 = 64768
		{"65,507 bytes exactly", append(of(44, 1472), of(1, 739)...), 1472, 45},
		{"one byte more", append(of(44, 1472), of(1, 740)...), 1472, 44},
		{"empty", of(3, 0), 1472, 1},
		{"an empty last", append(of(3, 10), of(1, 0)...), 1472, 3},
		{"a shorter last", append(of(3, 10), of(3, 9)...), 1472, 4},
		{"a longer one", append(of(3, 10), of(3, 11)...), 1472, 3},
	} {
		if got := runLength(tt.batch, tt.segment); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestARefusedRunIsSentSingly(t *testing.T) {
	for _, tt := range []struct {
		name     string
		script   map[string][]error
		want     outcome
		wantErr  error
		segments bool // whether runs are tried again afterwards
	}{
		{"no checksum offload", map[string][]error{"a+b+c": {syscall.EIO}}, outcome{4, nil, "x a b c"}, nil, false},
		{"an old kernel", map[string][]error{"a+b+c": {syscall.EINVAL}}, outcome{4, nil, "x a b c"}, nil, false},
		{"a smaller MTU", map[string][]error{"a+b+c": {syscall.EMSGSIZE}}, outcome{4, nil, "x a b c"}, nil, true},
		{"somebody's ICMP error", map[string][]error{"a+b+c": {icmp{syscall.EOPNOTSUPP}, nil}}, outcome{4, nil, "x a b c"}, nil, true},
		{"one of it is bad", map[string][]error{"a+b+c": {syscall.EINVAL}, "b": {syscall.EINVAL}}, outcome{4, []int{2}, "x a c"}, nil, true},
		{"a firewall", map[string][]error{"a+b+c": {syscall.EPERM}, "a": {syscall.EPERM}, "b": {syscall.EPERM}, "c": {syscall.EPERM}}, outcome{4, []int{1, 2, 3}, "x"}, nil, true},
		{"the queue has no room for it", map[string][]error{"a+b+c": {syscall.ENOBUFS}}, outcome{4, nil, "x a b c"}, nil, true},
		{"the queue has room for one of it", map[string][]error{"a+b+c": {syscall.ENOBUFS}, "b": {syscall.ENOBUFS}}, outcome{2, nil, "x a"}, ErrNoBuffer, true},
		{"the send buffer is full", map[string][]error{"a+b+c": {syscall.EAGAIN}}, outcome{1, nil, "x"}, ErrWouldBlock, true},
		{"the send buffer fills up", map[string][]error{"a+b+c": {syscall.EIO}, "c": {syscall.EAGAIN}}, outcome{3, nil, "x a b"}, ErrWouldBlock, true},
		{"the address is gone", map[string][]error{"a+b+c": {syscall.ENETUNREACH}, "a": {syscall.ENETUNREACH}}, outcome{1, nil, "x"}, ErrPending, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{refuse: refusing(tt.script)}
			s := k.sender(1472)
			batch := batchOf("x a b c")
			batch[0].To = netip.MustParseAddrPort("239.9.9.9:9")
			got, err := sendAll(s, k, batch)
			if !errors.Is(err, tt.wantErr) {
				t.Errorf("error %v; want %v", err, tt.wantErr)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			if (s.SegmentationError() == nil) != tt.segments {
				t.Errorf("segmentation error %v", s.SegmentationError())
			}
			k.calls = nil
			sendAll(s, k, batchOf("y z"))
			want := "y+z"
			if !tt.segments {
				want = "y z"
			}
			if d := cmp.Diff([]string{want}, k.calls); d != "" {
				t.Errorf("afterwards: want -, got +:\n%s", d)
			}
		})
	}
}

func TestSegmentationEndsWithinTheBatch(t *testing.T) {
	k := &kernel{refuse: func(name string) error {
		if strings.Contains(name, "+") {
			return syscall.EIO
		}
		return nil
	}}
	batch := batchOf("a b cc dd")
	got, err := sendAll(k.sender(1472), k, batch)
	if d := cmp.Diff(outcome{4, nil, "a b cc dd"}, got); d != "" || err != nil {
		t.Errorf("%v; want -, got +:\n%s", err, d)
	}
	// One refusal, the two singly, and the rest at once.
	if d := cmp.Diff([]string{"", "a b", "cc dd"}, k.calls); d != "" {
		t.Errorf("calls: want -, got +:\n%s", d)
	}
}

// Whatever the kernel does, every datagram is either taken or failed, once, and
// in order.
func TestEveryDatagramIsDisposedOfOnceAndInOrder(t *testing.T) {
	verdicts := []error{nil, nil, nil, nil, syscall.EPERM, syscall.EAGAIN, syscall.ENOBUFS, syscall.EIO, syscall.EINVAL, icmp{syscall.ECONNREFUSED}, icmp{syscall.ENETUNREACH}, syscall.ENETUNREACH}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		k := &kernel{most: r.IntN(5), refuse: func(string) error { return verdicts[r.IntN(len(verdicts))] }}
		s := k.sender(1472)
		batch := make([]Datagram, 200)
		var want []string
		for i := range batch {
			batch[i].Payload = fmt.Appendf(nil, "%d%s", i, strings.Repeat(".", r.IntN(3)))
			batch[i].To = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 0, 0, byte(r.IntN(2))}), 5000)
			want = append(want, string(batch[i].Payload))
		}
		var got []string
		last := -1
		for at := 0; at < len(batch); {
			n, err := s.Send(batch[at:], func(i int, _ error) {
				if at+i <= last {
					t.Fatalf("seed %d: %d failed after %d", seed, at+i, last)
				}
				last = at + i
				got = append(got, k.taken...)
				got, k.taken = append(got, string(batch[at+i].Payload)), nil
			})
			if n < 0 || n > len(batch)-at || (err == nil) != (n == len(batch)-at) {
				t.Fatalf("seed %d: got %d of %d, %v", seed, n, len(batch)-at, err)
			}
			at += n
		}
		if got = append(got, k.taken...); !slices.Equal(got, want) {
			t.Fatalf("seed %d: want -, got +:\n%s", seed, cmp.Diff(want, got))
		}
	}
}
