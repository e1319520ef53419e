package multicast

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

// shapings put a token bucket filter of 10 Mbit/s before the rig's cable, whose queue
// has room for less than a run of 64 datagrams of 1,000 bytes.
var shapings = map[string]func(*netlab.Rig){
	"the root":           func(r *netlab.Rig) { r.GW.Shape("iso0", 1_250_000, 32<<10, 30_000) },
	"below another":      func(r *netlab.Rig) { r.GW.ShapeBelow("iso0", 1_250_000, 32<<10, 30_000) },
	"with a small burst": func(r *netlab.Rig) { r.GW.Shape("iso0", 1_250_000, 5000, 30_000) },
}

// A discipline that cuts a segmented send up drops parts of it and reports success.
// So datagrams go one by one, and all that count as sent are on the wire.
func TestWhatAShaperDropsDoesNotCountAsSent(t *testing.T) {
	for name, shape := range shapings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := netlab.NewRig(t)
			iso := rig.Dev.Capture("eth0")
			shape(rig)
			s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
			if q := s.Source().Queue; q != "tbf" {
				t.Errorf("the queue is %q", q)
			}
			if err := s.SegmentationError(); err == nil || err.Error() != "the queueing discipline tbf of iso0 cuts segmented sends up and may drop parts of them without a word" {
				t.Errorf("segmented sends: %v", err)
			}
			var want []string
			var batch []Datagram
			for i := range 300 {
				want = append(want, fmt.Sprintf("%04d%s", i, strings.Repeat(".", 996)))
				batch = append(batch, Datagram{To: rigGroup, Payload: []byte(want[i])})
			}
			sendWaiting(t, s, batch)
			var got []string
			for _, f := range iso.WaitFor(len(want), nil) {
				got = append(got, string(f.Payload))
			}
			slices.Sort(got) // the shaper hands some on by another processor, and a veth has a backlog for each
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
		})
	}
}

// sendWaiting sends a batch however often the queue is full.
func sendWaiting(t *testing.T, s *Sender, batch []Datagram) {
	t.Helper()
	ctx, cancel := contextFor(t)
	defer cancel()
	full := false
	for len(batch) > 0 {
		n, err := s.Send(batch, func(i int, err error) { t.Errorf("datagram %d: %v", i, err) })
		batch = batch[n:]
		switch {
		case err == nil:
			continue
		case !errors.Is(err, ErrNoBuffer) && !errors.Is(err, ErrWouldBlock):
			t.Fatal(err)
		}
		full = true
		if err := s.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if !full {
		t.Error("the queue was never full: the test shows nothing")
	}
}

// queueOf is what a host says of the queues of an interface.
func queueOf(t *testing.T, h *netlab.Host, dev string) (kind string) {
	t.Helper()
	err := h.Do(func() error {
		ifs, err := Interfaces()
		if err == nil {
			kind = findInterface(ifs, dev).Queue
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

// Interfaces that send through another have its queues too.
func TestTheQueueOfALowerInterfaceCounts(t *testing.T) {
	rig := netlab.NewRig(t)
	ip(t, rig.GW, "link add link iso0 name mv0 type macvlan mode bridge", "link add br0 type bridge", "link set priv0 master br0")
	devs := []string{"lo", "iso0", "priv0", "mv0", "br0"}
	state := func() (all string) {
		for _, dev := range devs {
			all += dev + "=" + queueOf(t, rig.GW, dev) + " "
		}
		return all
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "lo= iso0= priv0= mv0= br0= "},
		{func() { rig.GW.Shape("iso0", 1_250_000, 5000, 30_000) }, "lo= iso0=tbf priv0= mv0=tbf br0= "},
		{func() { rig.GW.Unshape("iso0") }, "lo= iso0= priv0= mv0= br0= "},
		{func() { rig.GW.ShapeBelow("priv0", 1_250_000, 5000, 30_000) }, "lo= iso0= priv0=tbf mv0= br0=tbf "},
	} {
		step.do()
		if got := state(); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

func TestAQueueThatComesAndGoesIsTold(t *testing.T) {
	rig := netlab.NewRig(t)
	w := watchOn(t, rig.GW, watchBuffer)
	s := openOn(t, rig.GW, with(bind("172.17.0.1", "iso0"), nil))
	entries := counting(s)
	for i, step := range []struct {
		do      func()
		queue   string
		entries int
	}{
		{func() { rig.GW.Shape("iso0", 125_000_000, 50_000, 1<<20) }, "tbf", 3},
		{func() { rig.GW.Unshape("iso0") }, "", 1},
	} {
		w.sync(rig.GW)
		select {
		case <-w.news: // of the sync
		default:
		}
		step.do()
		ctx, cancel := contextFor(t)
		select {
		case <-w.news:
		case <-ctx.Done():
			t.Fatalf("step %d is not told", i)
		}
		cancel()
		if got := queueOf(t, rig.GW, "iso0"); got != step.queue {
			t.Errorf("step %d: the queue is %q, want %q", i, got, step.queue)
		}
		s.SetQueue(step.queue)
		*entries = 0
		send(t, s, rigGroup, "1", "2", "3")
		if *entries != step.entries {
			t.Errorf("step %d: %d entries, want %d", i, *entries, step.entries)
		}
	}
}

// An MTU that shrinks under an open sender makes the kernel refuse its runs: their
// datagrams leave one by one, in fragments or not at all, and each is accounted for.
func TestAnMTUThatShrinksLosesNoneOfARun(t *testing.T) {
	for _, fragment := range []bool{true, false} {
		for _, tt := range []struct {
			source string
			mtu    int
		}{{"172.17.0.1", 1000}, {"fd17::1", 1280}} {
			rig := netlab.NewRig(t)
			iso := rig.Dev.Capture("eth0")
			group := rigGroup
			if tt.source == "fd17::1" {
				group = rigGroup6
			}
			s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), func(b *Binding) { b.Fragment = fragment }))
			rig.GW.MTU("iso0", tt.mtu)
			var batch []Datagram
			for i := range 64 {
				batch = append(batch, Datagram{To: group, Payload: fmt.Appendf(nil, "%04d%s", i, strings.Repeat(".", 1296))})
			}
			batch = append(batch, Datagram{To: group, Payload: []byte("the last")})
			refused := 0
			n, err := s.Send(batch, func(_ int, err error) {
				refused++
				if !errors.Is(err, ErrTooLong) {
					t.Error(err)
				}
			})
			if n != len(batch) || err != nil || fragment != (refused == 0) || !fragment && refused != 64 {
				t.Errorf("%s, fragments %t: disposed of %d of %d, %v; %d refused", tt.source, fragment, n, len(batch), err, refused)
			}
			if got := iso.WaitFor(len(batch)-refused, nil); string(got[len(got)-1].Payload) != "the last" {
				t.Errorf("%s, fragments %t: the last is %v", tt.source, fragment, got[len(got)-1])
			}
			if err := s.SegmentationError(); err != nil {
				t.Errorf("%s, fragments %t: %v; runs are as good as before where they fit", tt.source, fragment, err)
			}
		}
	}
}

// Those that cut are found, on the interface itself and below a VLAN. What a kernel
// does not have is left out.
func TestDisciplinesAreToldApart(t *testing.T) {
	tried := 0
	for discipline, want := range map[string]string{
		"tbf rate 10mbit burst 32kb limit 30kb": "tbf",
		"netem delay 1ms":                       "netem",
		"cake bandwidth 10mbit":                 "cake",
		"fq_codel":                              "",
		"fq":                                    "",
		"pfifo limit 100":                       "",
		"htb default 1":                         "",
		"sfq":                                   "",
	} {
		rig := netlab.NewRig(t)
		if out, err := rig.GW.Command("tc", strings.Fields("qdisc add dev iso0 root "+discipline)...).CombinedOutput(); err != nil {
			t.Logf("%s is not had here: %v: %s", discipline, err, out)
			continue
		}
		tried++
		devs := []string{"iso0"}
		if out, err := rig.GW.Command("ip", strings.Fields("link add link iso0 name iso0.10 type vlan id 10")...).CombinedOutput(); err != nil {
			t.Logf("no VLAN here: %v: %s", err, out)
		} else {
			devs = append(devs, "iso0.10")
		}
		for _, dev := range devs {
			if got := queueOf(t, rig.GW, dev); got != want {
				t.Errorf("%s on %s: %q, want %q", discipline, dev, got, want)
			}
		}
		if got := queueOf(t, rig.GW, "priv0"); got != "" {
			t.Errorf("%s: priv0 has %q too", discipline, got)
		}
	}
	if tried == 0 {
		netlab.Skip(t, "no queueing discipline, or no tc(8)")
	}
}
