package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/frame"
)

// only is the one finding of a patient.
func (p *patient) only(t *testing.T) Finding {
	t.Helper()
	found := Examine(p.h, []*Subject{p.Subject}).Findings
	if len(found) != 1 {
		t.Fatalf("%d findings: %+v", len(found), found)
	}
	return found[0]
}

// On a gateway there is the binary, and no folder docs.
func TestEveryLossHasAFixThatNeedsNoDocument(t *testing.T) {
	for _, r := range account.Reasons() {
		if r.Filtered() || slices.Contains(elsewhere, r) {
			continue
		}
		for _, send := range []bool{true, false} {
			p := newPatient(send)
			drops := map[string]uint64{r.String(): 3}
			if send {
				p.sent[1].Drops = drops
			} else {
				p.published[1].Drops = drops
			}
			if f := p.only(t); len(f.Fix) < 20 || strings.Contains(f.Fix, "docs/") {
				t.Errorf("%s: fix: %q", r, f.Fix)
			}
		}
	}
}

// mosquitto takes no {source} in an acl_file: it would be a level of that name.
func TestTheTopicOfAnAccessControlIsOneThatABrokerTakes(t *testing.T) {
	for topic, want := range map[string]string{
		"site/lamp/{source}/state": "site/lamp/+/state",
		"a/{json:/x/y}/b{port}":    "a/+/+",
		"{name}":                   "+",
		"a//b/":                    "a//b/",
	} {
		p := newPatient(false)
		p.published[1].Topic, p.published[1].Drops = topic, map[string]uint64{"broker_refused": 1}
		if f := p.only(t); !strings.HasSuffix(f.Fix, ": topic write "+want) {
			t.Errorf("%s: %s, want %s", topic, f.Fix, want)
		}
	}
}

// Whoever may read the rules is not sent to read them.
func TestTheRuleThatRefusesIsNamedWhereItCanBeRead(t *testing.T) {
	const ofRoot = `{"match":{"op":"==","left":{"meta":{"key":"skuid"}},"right":0}},`
	for name, refused := range map[string]func(p *patient){
		"by the self-test": func(p *patient) {
			p.Live.Probe = &multicast.Probe{Result: multicast.ProbeRefused, Detail: "refused"}
		},
		"by a loss": func(p *patient) { p.sent[1].Drops = map[string]uint64{"firewall": 1} },
		"by the state of the rule": func(p *patient) {
			p.sent[1].State, p.sent[1].Reason = account.StateDegraded, "a firewall of this host does not let datagrams leave"
		},
	} {
		for _, row := range []struct {
			rules *Ruleset
			want  string
		}{
			{nil, "nft list ruleset as root shows which"},
			{dropping("output", ofRoot), `nft insert rule inet f output oifname "iso0" ip daddr 239.11.3.7 udp dport 30001 accept`},
			{&Ruleset{}, "nft list ruleset has no rule that does"},
		} {
			p := newPatient(true)
			p.Source.Addr = netip.MustParseAddr("172.17.0.1")
			p.h.Rules = row.rules
			refused(p)
			if f := p.only(t); f.Cause != EgressFirewall || !strings.Contains(f.Fix, row.want) {
				t.Errorf("%s: %+v, want %s", name, f, row.want)
			}
		}
	}
}

// What a rule of 64 groups cannot know is one line, not five for each.
func TestWhatASwitchMayKeepIsSaidOnceOfAnInterface(t *testing.T) {
	p := newPatient(false)
	var subjects []*Subject
	for i := range 10 {
		s := *p.Subject
		s.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 11, 0, byte(i)}), 30001)
		subjects = append(subjects, &s)
	}
	other := *p.Subject
	other.On.Name, other.On.Index = "priv0", 3
	subjects = append(subjects, &other)
	var got []string
	for _, u := range Examine(p.h, subjects).Unseen {
		if strings.HasPrefix(u, "whether a switch keeps groups") {
			got = append(got, u)
		}
	}
	want := []string{
		"whether a switch keeps groups from iso0: nothing came for 239.11.0.0:30001, 239.11.0.1:30001, 239.11.0.2:30001, 239.11.0.3:30001, 239.11.0.4:30001, 239.11.0.5:30001, 239.11.0.6:30001, 239.11.0.7:30001 and 2 more, so",
		"whether a switch keeps groups from priv0: nothing came for 239.11.3.7:30001, so",
	}
	if len(got) != 2 || !strings.HasPrefix(got[0], want[0]) || !strings.HasPrefix(got[1], want[1]) || !strings.Contains(got[0], "topicast listen 239.11.0.0:30001 --interface iso0 ") {
		t.Errorf("%q", got)
	}
}

// A silence is no pending rule, and there is more to do than to read what it says.
func TestASilenceIsFollowedUpByListening(t *testing.T) {
	for _, row := range []struct {
		to   string
		want string
	}{
		{"239.11.3.7:30001", "topicast listen 239.11.3.7:30001 --interface iso0 shows"},
		{"0.0.0.0:6454", "tcpdump -ni iso0 udp port 6454 shows"},
	} {
		p := newPatient(false)
		p.To = netip.MustParseAddrPort(row.to)
		p.published[1].State, p.published[1].Reason = account.StateDegraded, "nothing is heard since 16:59:50, which is longer than 3s (expect)"
		if f := p.only(t); f.Cause != Degraded || !strings.HasPrefix(f.Fix, row.want) {
			t.Errorf("%s: %+v", row.to, f)
		}
	}
}

// 239.10.0.0 is no group of 239.10.{floor}.{id} that anything is sent to.
func TestOfARuleWithManyGroupsThoseThatItSendsToAreNamed(t *testing.T) {
	p := newPatient(true)
	p.answered()
	p.Exact, p.To, p.Groups = false, netip.MustParseAddrPort("239.10.0.0:30001"), netip.MustParsePrefix("239.10.0.0/16")
	sends := func(to string) {
		p.Live.Wire.Flows[Flow{Sent: true, From: netip.AddrPortFrom(here, 4000), To: netip.MustParseAddrPort(to)}] = 1
	}
	for _, to := range []string{"239.10.3.7:30001", "239.10.3.8:30001", "239.10.9.9:40000", "239.99.0.1:30001"} {
		sends(to)
	}
	p.reports(device, frame.Packet{Members: []frame.Member{{Group: netip.MustParseAddr("239.10.3.8")}, {Group: netip.MustParseAddr("239.10.4.4")}}}, now)
	var got []string
	for _, text := range Examine(p.h, []*Subject{p.Subject}).Seen {
		if strings.Contains(text, "has joined") {
			got = append(got, text)
		}
	}
	want := []string{"nobody on iso0 has joined 239.10.3.7", "172.17.0.50 on iso0 has joined 239.10.3.8", "172.17.0.50 on iso0 has joined 239.10.4.4"}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%q, want %q", got, want)
	}

	// What is said of the firewall is of all of them, and so is the command.
	p.h.Rules, p.Source.Addr = dropping("output", ofUDP), here
	f := p.only(t)
	if !strings.Contains(f.Text, "to groups of 239.10.0.0/16, port 30001, leave") || !strings.Contains(f.Fix, " ip daddr 239.10.0.0/16 udp dport 30001 accept") {
		t.Errorf("%+v", f)
	}
	p.To = netip.MustParseAddrPort("239.10.0.0:0")
	p.h.Rules = dropping("output", "")
	f = p.only(t)
	if !strings.Contains(f.Text, "to groups of 239.10.0.0/16 leave") || !strings.Contains(f.Fix, " ip daddr 239.10.0.0/16 meta l4proto udp accept") {
		t.Errorf("%+v", f)
	}
}

// What waits for a carrier is not lost.
func TestWhatWaitsForACarrierIsNotSaidToBeLost(t *testing.T) {
	for what, row := range map[string]struct {
		send bool
		make func(p *patient)
		want string // among what was seen; "": nothing
	}{
		"on disk":              {true, func(p *patient) { p.sent[1].WaitingDisk, p.sent[1].WaitingMemory = 20, 1 }, "messages of rule r wait until it works, 1 in memory and 20 on disk: topicast sends them then"},
		"nothing yet":          {true, func(*patient) {}, "what comes for rule r meanwhile waits or is dropped, as on_down of the rule says"},
		"other programs":       {true, func(p *patient) { p.Name, p.h.Daemon = "", Daemon{Off: true} }, "what programs send by it all the same the kernel takes, and it is lost"},
		"of what is received":  {false, func(*patient) {}, ""},
		"an interface is down": {true, func(p *patient) { p.On.Up, p.sent[1].WaitingDisk = false, 20 }, "messages of rule r wait until it works, 0 in memory and 20 on disk: topicast sends them then"},
	} {
		p := newPatient(row.send)
		p.On.Carrier = false
		row.make(p)
		f := p.only(t)
		if strings.Contains(f.Text, "lost") || slices.Contains(f.Evidence, "") || row.want != "" && !slices.Contains(f.Evidence, row.want) || row.want == "" && len(f.Evidence) != 1 {
			t.Errorf("%s: %+v", what, f)
		}
	}
	// Of rules of both directions it is one cause, as it is one cable.
	out, in := newPatient(true), newPatient(false)
	out.On.Carrier, in.On.Carrier, in.Of = false, false, "rule in"
	out.h.Daemon.After.Receive = in.h.Daemon.After.Receive
	if r := Examine(out.h, []*Subject{out.Subject, in.Subject}); len(r.Findings) != 1 || len(r.Findings[0].Of) != 2 {
		t.Errorf("%+v", r.Findings)
	}
}

// A rule of the firewall that is for one group of a template is found by the group that the bridge has lost something for.
func TestTheGroupThatTheBridgeNamesIsHeldAgainstTheFirewall(t *testing.T) {
	const of1 = `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"239.10.3.1"}},`
	const firstly = "topic g/3/lamp/1/set: send to 239.10.3.1:30000 from 172.17.0.1 on iso0: a firewall on this host forbids it: operation not permitted"
	const fix = `nft insert rule inet f output oifname "iso0" ip daddr 239.10.3.1 udp dport 30000 accept`
	template := func(reason, first string) *patient {
		p := newPatient(true)
		p.Source.Addr, p.h.Rules = here, dropping("output", of1)
		p.Exact, p.To, p.Groups = false, netip.MustParseAddrPort("239.10.0.0:30000"), netip.MustParsePrefix("239.10.0.0/16")
		p.sent[0].Drops, p.sent[1].Drops = map[string]uint64{reason: 1}, map[string]uint64{reason: 1}
		p.sent[1].FirstDrops, p.sent[1].LastDrop = map[string]string{reason: first}, now.Add(-time.Minute)
		return p
	}
	for passed, said := range map[time.Duration]string{-time.Hour: firstly, -time.Second: strings.ReplaceAll(firstly, "send to", "send 12 bytes to"), -time.Minute: "topic a to 239.9.9.9:1: send to " + firstly} {
		p := template("firewall", said) // others pass all the while, or none do
		p.sent[1].LastSent = now.Add(passed)
		f := p.only(t)
		if f.Cause != EgressFirewall || f.Fix != fix || !strings.Contains(f.Text, "from 172.17.0.1 to 239.10.3.1:30000 leave") || !strings.HasPrefix(f.Evidence[0], "the rule with handle 4 of chain inet f output drops it") {
			t.Errorf("%+v", f)
		}
		if r := Examine(p.h, []*Subject{p.Subject}); slices.Contains(r.Healthy, "firewall") {
			t.Errorf("the firewall is said to be healthy: %q", r.Healthy)
		}
	}
	// Where the rule is gone the one loss that there was has ended; of several another group may have been refused.
	p := template("firewall", firstly)
	p.h.Rules = &Ruleset{}
	if got := p.causes(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	p.sent[0].Drops["firewall"], p.sent[1].Drops["firewall"] = 2, 2
	if f := p.only(t); f.Cause != EgressFirewall {
		t.Errorf("%+v", f)
	}
	// Of hosts likewise.
	p = template("firewall", strings.ReplaceAll(firstly, "239.10.3.1", "172.17.33.1"))
	p.Groups, p.To, p.h.Rules = netip.Prefix{}, netip.AddrPort{}, dropping("output", strings.ReplaceAll(of1, "239.10.3.1", "172.17.33.1"))
	if f := p.only(t); f.Fix != strings.ReplaceAll(fix, "239.10.3.1", "172.17.33.1") {
		t.Errorf("%+v", f)
	}
	// What is none of the rule is not: it was sent before a reload.
	p = template("refused", strings.ReplaceAll(firstly, "239.10.3.1", "239.99.3.1"))
	p.h.Rules = dropping("output", strings.ReplaceAll(of1, "239.10.3.1", "239.99.3.1"))
	if f := p.only(t); f.Cause != Dropped {
		t.Errorf("%+v", f)
	}
	// All of its groups are named where all are refused.
	p = template("firewall", firstly)
	p.h.Rules = dropping("output", "")
	if f := p.only(t); !strings.Contains(f.Fix, "ip daddr 239.10.0.0/16 udp dport 30000 accept") {
		t.Errorf("%+v", f)
	}
}
