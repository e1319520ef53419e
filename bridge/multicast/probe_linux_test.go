package multicast

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"

	"topicast/internal/lab/netlab"
)

// nft runs firewall commands on a host.
func nft(t *testing.T, h *netlab.Host, commands ...string) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		netlab.Skip(t, "no firewall to test with: %v", err)
	}
	if out, err := h.Command("nft", "list", "ruleset").CombinedOutput(); err != nil {
		netlab.Skip(t, "no firewall to test with: %v: %s", err, out)
	}
	for _, c := range commands {
		if out, err := h.Command("nft", c).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", c, err, out)
		}
	}
}

// probeOn probes a sender on its host.
func probeOn(t *testing.T, h *netlab.Host, s *Sender) Probe {
	t.Helper()
	var p Probe
	err := h.Do(func() error { p = s.Probe(t.Context()); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProbe(t *testing.T) {
	v4 := with(bind("172.17.0.9", "iso0"), func(b *Binding) { b.SourcePort = 5555 })
	v6 := with(bind("fd17::1", "iso0"), func(b *Binding) { b.SourcePort = 5555 })
	addr := netip.MustParseAddrPort
	for _, tt := range []struct {
		name  string
		b     Binding
		rules []string
		want  Probe
	}{
		{"nothing in the way", v4, nil, Probe{Result: ProbeVerified, Wanted: addr("172.17.0.9:5555"), Seen: addr("172.17.0.9:5555")}},
		{"nothing in the way, IPv6", v6, nil, Probe{Result: ProbeVerified, Wanted: addr("[fd17::1]:5555"), Seen: addr("[fd17::1]:5555")}},
		{"masquerade", v4, []string{
			"add table ip nat",
			"add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }",
			"add rule ip nat POSTROUTING oifname iso0 masquerade",
		}, Probe{ProbeRewritten, addr("172.17.0.9:5555"), addr("172.17.0.1:5555"),
			"a NAT rule changes the source from 172.17.0.9:5555 to 172.17.0.1:5555; exempt udp to 224.0.0.0/4 from it: nft insert rule ip nat POSTROUTING ip daddr 224.0.0.0/4 accept (nat and POSTROUTING stand for the table and the chain the rule is in, see nft list ruleset)"}},
		{"masquerade, and the cure", v4, []string{
			"add table ip nat",
			"add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }",
			"add rule ip nat POSTROUTING oifname iso0 masquerade",
			"insert rule ip nat POSTROUTING ip daddr 224.0.0.0/4 accept",
		}, Probe{Result: ProbeVerified, Wanted: addr("172.17.0.9:5555"), Seen: addr("172.17.0.9:5555")}},
		{"another port", v4, []string{
			"add table ip nat",
			"add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }",
			"add rule ip nat POSTROUTING oifname iso0 meta l4proto udp snat to 172.17.0.9:7777",
		}, Probe{ProbeRewritten, addr("172.17.0.9:5555"), addr("172.17.0.9:7777"),
			"a NAT rule changes the source from 172.17.0.9:5555 to 172.17.0.9:7777; exempt udp to 224.0.0.0/4 from it: nft insert rule ip nat POSTROUTING ip daddr 224.0.0.0/4 accept (nat and POSTROUTING stand for the table and the chain the rule is in, see nft list ruleset)"}},
		{"IPv6 NAT", v6, []string{
			"add table ip6 nat",
			"add chain ip6 nat POSTROUTING { type nat hook postrouting priority 100; }",
			"add rule ip6 nat POSTROUTING oifname iso0 meta l4proto udp snat to fd17::99",
		}, Probe{ProbeRewritten, addr("[fd17::1]:5555"), addr("[fd17::99]:5555"),
			"a NAT rule changes the source from [fd17::1]:5555 to [fd17::99]:5555; exempt udp to ff00::/8 from it: nft insert rule ip6 nat POSTROUTING ip6 daddr ff00::/8 accept (nat and POSTROUTING stand for the table and the chain the rule is in, see nft list ruleset)"}},
		{"an input firewall", v4, []string{
			"add table inet f",
			"add chain inet f input { type filter hook input priority 0; policy drop; }",
			"add rule inet f input ct state established accept",
		}, Probe{Result: ProbeUnheard, Wanted: addr("172.17.0.9:5555"),
			Detail: "a probe from 172.17.0.9:5555 on iso0 did not come back: a firewall seems to drop multicast that comes in on iso0, from this host and so maybe from others"}},
		{"an output firewall", v4, []string{
			"add table inet f",
			"add chain inet f output { type filter hook output priority 0; policy drop; }",
		}, Probe{Result: ProbeRefused, Wanted: addr("172.17.0.9:5555"),
			Detail: "a firewall on this host does not let datagrams leave from 172.17.0.9:5555 on iso0: allow udp to 224.0.0.0/4 in its output chain"}},
		{"an output firewall, IPv6", v6, []string{
			"add table inet f",
			"add chain inet f output { type filter hook output priority 0; policy drop; }",
		}, Probe{Result: ProbeRefused, Wanted: addr("[fd17::1]:5555"),
			Detail: "a firewall on this host does not let datagrams leave from [fd17::1]:5555 on iso0: allow udp to ff00::/8 in its output chain"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rig := netlab.NewRig(t)
			rig.GW.Addr("iso0", "172.17.0.9/16")
			if tt.rules != nil {
				nft(t, rig.GW, tt.rules...)
			}
			iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
			s := openOn(t, rig.GW, tt.b)
			got := probeOn(t, rig.GW, s)
			if d := cmp.Diff(tt.want, got, cmpAddr); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			// The probe itself is nobody else's business.
			iso.None(nil)
			priv.None(nil)
		})
	}
}

// What datagrams really leave from is what the probe says.
func TestProbeSeesWhatIsOnTheWire(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Addr("iso0", "172.17.0.9/16")
	nft(t, rig.GW,
		"add table ip nat",
		"add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }",
		"add rule ip nat POSTROUTING oifname iso0 masquerade")
	iso := rig.Dev.Capture("eth0")
	s := openOn(t, rig.GW, with(bind("172.17.0.9", ""), nil))
	p := probeOn(t, rig.GW, s)
	send(t, s, rigGroup, "x")
	if f := iso.WaitFor(1, nil)[0]; f.Src.Addr() != p.Seen.Addr() || f.Src.Addr() == s.LocalAddr().Addr() {
		t.Errorf("%v on the wire, the probe saw %s", f, p.Seen)
	}
}

// What a sender to hosts is told to exempt is what it sends, and not the probe alone, which
// goes to a group.
func TestTheCureOfNATIsOneForHosts(t *testing.T) {
	const want = "a NAT rule changes the source from 172.17.0.9:5555 to 172.17.0.1:5555; exempt udp from 172.17.0.9 from it: nft insert rule ip nat POSTROUTING ip saddr 172.17.0.9 accept (nat "
	rig := netlab.NewRig(t)
	rig.GW.Addr("iso0", "172.17.0.9/16")
	nft(t, rig.GW,
		"add table ip nat",
		"add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }",
		"add rule ip nat POSTROUTING oifname iso0 masquerade")
	iso := rig.Dev.Capture("eth0")
	s := openOn(t, rig.GW, with(bind("172.17.0.9", "iso0"), func(b *Binding) { toHosts(b); b.SourcePort = 5555 }))
	p := probeOn(t, rig.GW, s)
	if p.Result != ProbeRewritten || !strings.HasPrefix(p.Detail, want) {
		t.Fatalf("%v: %s", p.Result, p.Detail)
	}
	_, cure, _ := strings.Cut(p.Detail, "nft insert")
	cure, _, _ = strings.Cut(cure, " (")
	nft(t, rig.GW, "insert"+cure)
	if p := probeOn(t, rig.GW, s); p.Result != ProbeVerified {
		t.Errorf("with the cure: %v: %s", p.Result, p.Detail)
	}
	if err := sendHost(s, "172.17.0.50:5000", false, the13); err != nil {
		t.Fatal(err)
	}
	if f := iso.WaitFor(1, nil)[0]; f.Src != s.LocalAddr() {
		t.Errorf("with the cure: %v", f)
	}
}

// The probe borrows the sender's socket and gives it back as it was.
func TestProbeLeavesNothingBehind(t *testing.T) {
	for _, source := range []string{"172.17.0.1", "fd17::1"} {
		group := rigGroup
		if strings.Contains(source, ":") {
			group = rigGroup6
		}
		rig := netlab.NewRig(t)
		iso := rig.Dev.Capture("eth0")
		here := listenOn(t, rig.GW, group, "iso0")
		s := openOn(t, rig.GW, with(bind(source, ""), func(b *Binding) { b.TTL, b.Loopback = 9, false }))
		if p := probeOn(t, rig.GW, s); p.Result != ProbeVerified {
			t.Errorf("%+v", p)
		}
		send(t, s, group, "x")
		if f := iso.WaitFor(1, nil)[0]; f.TTL != 9 {
			t.Errorf("%v; want ttl 9", f)
		}
		quiet(t, here, openOn(t, rig.GW, with(bind(source, ""), nil)))
	}
}

func TestProbeOnLoopback(t *testing.T) {
	s := openAt(t, at127(2))
	if p := s.Probe(t.Context()); p.Result != ProbeVerified || p.Seen != s.LocalAddr() || p.Detail != "" {
		t.Errorf("%+v", p)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if p := s.Probe(over); p.Result != ProbeSkipped || p.Detail != "the self-test could not be made: context canceled" {
		t.Errorf("cancelled: %+v", p)
	}
	s.Close()
	if p := s.Probe(t.Context()); p.Result != ProbeSkipped || p.Detail == "" {
		t.Errorf("closed: %+v", p)
	}
}

func TestProbeOnIPv6LoopbackSaysWhyNot(t *testing.T) {
	b := bind("::1", "")
	src, err := b.Resolve()
	if errors.Is(err, ErrPending) {
		netlab.Skip(t, "this host has no IPv6: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if p := s.Probe(t.Context()); p.Result != ProbeSkipped || p.Detail != "the self-test could not be made: IPv6 multicast does not work over the loopback interface" {
		t.Errorf("%+v", p)
	}
}

func TestProbeIsNotTakenForAnother(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	ours, other := openAt(t, at127(2)), openAt(t, at127(3))
	send(t, other, r.Group(), "somebody's mark")
	send(t, ours, r.Group(), "our mark")
	ctx, cancel := contextFor(t)
	defer cancel()
	seen, err := r.awaitProbe(ctx, "our mark")
	if seen != ours.LocalAddr() || err != nil {
		t.Errorf("saw %s, %v; want %s", seen, err, ours.LocalAddr())
	}
}

// It is at the mercy of a firewall for as long as it takes, so that has an end.
func TestProbeEndsInTime(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.awaitProbe(ctx, "mark"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A probe that has come back is not overlooked because this process got no processor in
// time: a busy host is not one with a firewall.
func TestProbeCountsWhatCameInTime(t *testing.T) {
	r := hear(t, "239.1.1.1:0", ReceiverOptions{})
	ours, other := openAt(t, at127(2)), openAt(t, at127(3))
	over, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-over.Done()
	for range 100 {
		send(t, other, r.Group(), "somebody's mark")
	}
	send(t, ours, r.Group(), "our mark")
	// Even over lo it arrives when the kernel finds the time.
	for late := time.Now().Add(10 * time.Second); ; {
		seen, err := r.awaitProbe(over, "our mark")
		if seen == ours.LocalAddr() && err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Now().After(late) {
			t.Fatalf("saw %s, %v; want %s", seen, err, ours.LocalAddr())
		}
	}
	if _, err := r.awaitProbe(over, "our mark"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Joining and sending take as long as a busy kernel lets them; the time in which the
// probe has to come back begins afterwards.
func TestProbeHasItsTimeThoughTheKernelIsSlow(t *testing.T) {
	s := openAt(t, at127(2))
	write := s.write
	s.write = func(ms []ipv4.Message) (int, error) {
		time.Sleep(2 * probeWait)
		return write(ms)
	}
	if p := s.Probe(t.Context()); p.Result != ProbeVerified {
		t.Errorf("%+v", p)
	}
}

func TestProbeResultsHaveNames(t *testing.T) {
	want := []string{"skipped", "source_verified", "rewritten", "unheard", "refused", "gateway"}
	var got []string
	for r := ProbeSkipped; r <= ProbeGateway; r++ {
		text, err := r.MarshalText()
		if err != nil {
			t.Error(err)
		}
		got = append(got, string(text))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}
