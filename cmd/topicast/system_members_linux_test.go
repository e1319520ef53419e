package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"topicast/bridge/doctor"
	"topicast/bridge/members"
	"topicast/internal/lab/netlab"
)

// Who listens, of a rule with members: in the status, in explain and in doctor.

const watchedLamps = "  - { name: lamps, filter: lamp/set, group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0, members: true }\n"

// devAsks makes a switch of the device: a bridge that snoops and asks often who has joined what, with
// a host behind another port, which it returns: a member of a group that no rule has. Unless reports
// go to everybody they go to the querier alone, and this host hears none.
func (a *ailing) devAsks(reports bool) (behind *netlab.Host) {
	a.t.Helper()
	behind = a.Lab.Host("behind")
	a.Link(a.Dev, "eth1", behind, "eth0")
	behind.Addr("eth0", "172.17.0.60/16")
	a.Dev.Add("bridge", "sw0")
	a.Dev.DelAddr("eth0", "172.17.0.50/16")
	a.Dev.Enslave("eth0", "sw0")
	a.Dev.Enslave("eth1", "sw0")
	a.Dev.Addr("sw0", "172.17.0.50/16")
	if reports {
		a.run(a.Dev, "bridge link set dev eth0 mcast_router 2")
	}
	behind.Device("eth0", group("239.255.1.1:5000"))
	// It goes by its table once the time for answers is over, as it was when it began to ask.
	a.run(a.Dev, "ip link set sw0 type bridge mcast_snooping 1 mcast_query_use_ifaddr 1 mcast_startup_query_interval 50 mcast_startup_query_count 200 mcast_query_response_interval 20")
	a.run(a.Dev, "ip link set sw0 type bridge mcast_querier 1")
	return behind
}

// members waits until the status says something of who listens to the group of lamps.
func (a *ailing) members(want string) members.Answer {
	a.t.Helper()
	var got members.Answer
	a.eventually(want, func() error {
		m := a.rule("lamps").Members
		if len(m) != 1 || !strings.Contains(m[0].String(), want) {
			return fmt.Errorf("%v", m)
		}
		got = m[0]
		return nil
	})
	return got
}

// explains runs explain of the topic of lamps.
func (a *ailing) explains() string {
	a.t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := a.GW.Command(binary, "explain", "lamp/set", "--config", a.config).CombinedOutput()
	if err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestExplainTellsWhoListens(t *testing.T) {
	a := newAiling(t)
	a.rules(watchedLamps, "")
	if got, want := a.explains(), "\n  joined      the running topicast knows, and does not answer (web.listen)\n"; !strings.Contains(got, want) {
		t.Errorf("%q is missing:\n%s", want, got)
	}
	a.starts()
	a.members("no querier of IGMP has asked on iso0")
	a.Dev.Device("eth0", lampsGroup)
	m := a.members("172.17.0.50 on iso0 has joined 239.10.3.7")
	if m.State != members.Some || m.Group != "239.10.3.7" || m.Interface != "iso0" || len(m.Hosts) != 1 || m.Hosts[0].At.IsZero() {
		t.Errorf("%+v", m)
	}
	if got, want := a.explains(), "\n  joined      172.17.0.50 on iso0 has joined 239.10.3.7\n"; !strings.Contains(got, want) {
		t.Errorf("%q is missing:\n%s", want, got)
	}
	a.args = []string{"--rule", "lamps"}
	// Doctor hears for a moment; the bridge has heard it before.
	if got, report, _ := a.diagnose(); len(got) > 0 || !slices.Contains(report.Seen, "172.17.0.50 on iso0 has joined 239.10.3.7") {
		t.Errorf("%q, seen %q", got, report.Seen)
	}
}

func TestThatNobodyListensIsKnownWhereAQuerierAsks(t *testing.T) {
	a := newAiling(t)
	a.rules(watchedLamps, "")
	a.starts()
	behind := a.devAsks(true)
	if m := a.members("nobody on iso0 has joined 239.10.3.7: hosts on iso0 have answered the query of "); m.State != members.None {
		t.Errorf("%+v", m)
	}
	a.args = []string{"--rule", "lamps"}
	if got, _, _ := a.diagnose(); !slices.Equal(got, []doctor.Cause{doctor.NobodyJoined}) {
		t.Errorf("doctor names %q", got)
	}
	if got := a.explains(); !strings.Contains(got, "\n  joined      nobody on iso0 has joined 239.10.3.7: ") {
		t.Errorf("explain: %s", got)
	}
	behind.Device("eth0", lampsGroup)
	a.members("172.17.0.60 on iso0 has joined")
}

func TestBehindASwitchThatSnoopsItCannotBeKnownWhoListens(t *testing.T) {
	a := newAiling(t)
	a.rules(watchedLamps, "")
	a.starts()
	a.devAsks(false)
	const want = "a querier asks on iso0, and this host hears no answer of any other: a switch with IGMP snooping brings them to the querier alone"
	a.members(want)
	a.args = []string{"--rule", "lamps", "--for", "2500ms"}
	got, report, _ := a.diagnose()
	if len(got) > 0 || !slices.ContainsFunc(report.Unseen, func(u string) bool { return strings.Contains(u, want) }) {
		text, _ := json.MarshalIndent(report, "", " ")
		t.Errorf("doctor names %q\n%s", got, text)
	}
}

func TestWithoutTheRightToHearReportsThatIsSaid(t *testing.T) {
	a := newAiling(t)
	a.rules(watchedLamps, "")
	a.startBroker()
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	a.bridge = a.GW.Start("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", binary, "run", "--config", a.config)
	a.eventually("it answers", func() error { _, _, err := a.get("/status"); return err })
	if m := a.members(members.NoRight); m.State != members.Unknown {
		t.Errorf("%+v", m)
	}
}

// On a bridge of this host the kernel knows, whoever asks; reload takes the key up and lays it down.
func TestABridgeOfThisHostTellsWhoListens(t *testing.T) {
	a := newAiling(t)
	a.bridged("mcast_startup_query_interval 50 mcast_startup_query_count 40 mcast_query_response_interval 20 mcast_querier 1")
	a.edit("iso0", "br0")
	a.starts()
	if m := a.rule("lamps").Members; m != nil {
		t.Errorf("without the key: %v", m)
	}
	if got, want := a.explains(), "\n  joined      nobody on br0 has joined 239.10.3.7: bridge mdb show dev br0 does not have it, and there is a querier\n"; !strings.Contains(got, want) {
		t.Errorf("%q is missing:\n%s", want, got)
	}
	a.edit("interface: br0 }", "interface: br0, members: true }")
	a.bridge.Process.Signal(syscall.SIGHUP)
	a.members("nobody on br0 has joined 239.10.3.7: bridge mdb show dev br0 does not have it")
	a.Dev.Device("eth0", lampsGroup)
	a.members("somebody behind iso0 on br0 has joined 239.10.3.7")
	a.edit(", members: true", "")
	a.bridge.Process.Signal(syscall.SIGHUP)
	a.eventually("it is no longer watched", func() error {
		if m := a.rule("lamps").Members; m != nil {
			return fmt.Errorf("%v", m)
		}
		return nil
	})
}
