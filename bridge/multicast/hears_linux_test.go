package multicast

import (
	"errors"
	"testing"

	"topicast/internal/lab/netlab"
)

// heard is what Hears says of an interface of a host, "" for nothing.
func heard(t *testing.T, h *netlab.Host, name string) string {
	t.Helper()
	var ifs []Interface
	if err := h.Do(func() (err error) { ifs, err = Interfaces(); return err }); err != nil {
		t.Fatal(err)
	}
	switch err := findInterface(ifs, name).CanReceive(); {
	case err == nil:
		return ""
	case !errors.Is(err, ErrPending):
		t.Errorf("%s: %v is not pending", name, err)
		fallthrough
	default:
		return err.Error()
	}
}

// What Hears says of an interface is what a receiver there finds.
func TestAnInterfaceWithAMasterHearsNothing(t *testing.T) {
	for _, tt := range []struct{ kind, want string }{
		{"bridge", "interface iso0 is a port of the bridge top0, which takes all that arrives, so that nothing is heard on it: listen on top0 (interface: top0)"},
		{"bond", "interface iso0 is a member of the bond top0, which takes all that arrives, so that nothing is heard on it: listen on top0 (interface: top0)"},
		{"team", "interface iso0 is a member of the team top0, which takes all that arrives, so that nothing is heard on it: listen on top0 (interface: top0)"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			rig := netlab.NewRig(t)
			s := sendersOn(t, rig.Dev, "172.17.0.50")[0]
			r := listenOn(t, rig.GW, rigGroup, "iso0")
			send(t, s, rigGroup, "before")
			next(t, r, 1)
			if got := heard(t, rig.GW, "iso0"); got != "" {
				t.Errorf("before: %s", got)
			}
			rig.GW.Add(tt.kind, "top0")
			if tt.kind != "bridge" { // which take none that is up
				rig.GW.Down("iso0")
			}
			rig.GW.Enslave("iso0", "top0")
			rig.GW.Up("iso0")
			if got := heard(t, rig.GW, "iso0"); got != tt.want {
				t.Errorf(" got %s\nwant %s", got, tt.want)
			}
			above := listenOn(t, rig.GW, rigGroup, "top0")
			if tt.kind != "team" { // it waits for teamd(8)
				for range 200 { // a bond takes a moment to choose its active member
					send(t, s, rigGroup, "heard above")
				}
				next(t, above, 1)
			}
			rig.GW.Release("iso0")
			rig.GW.Up("iso0")
			send(t, s, rigGroup, "after")
			for _, d := range next(t, r, 1) {
				if string(d.Payload) != "after" {
					t.Errorf("a member heard %q", d.Payload)
				}
			}
		})
	}
}

func TestHearingFollowsTheMasterOfTheMaster(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Add("bond", "bond0")
	rig.GW.Add("bridge", "br0")
	rig.GW.Down("iso0")
	rig.GW.Enslave("iso0", "bond0")
	rig.GW.Enslave("bond0", "br0")
	const want = "interface iso0 is a member of the bond bond0, which takes all that arrives, so that nothing is heard on it: listen on br0 (interface: br0)"
	if got := heard(t, rig.GW, "iso0"); got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
}

func TestAMemberOfAVRFHearsItsGroups(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.VRF("blue", 10, "iso0")
	if got := heard(t, rig.GW, "iso0"); got != "" {
		t.Error(got)
	}
}

func TestHearsSaysWhatIsMissing(t *testing.T) {
	for want, i := range map[string]Interface{
		"interface iso0 is down":        {Name: "iso0"},
		"interface iso0 has no carrier": {Name: "iso0", Up: true},
		"interface iso0 is a port of an Open vSwitch, which takes all that arrives, so that nothing is heard on it: listen on the switch's own interface": {
			Name: "iso0", Up: true, Carrier: true, Master: "ovs-system", MasterKind: "openvswitch", HeardOn: "ovs-system"},
		"interface iso0 is a member of eth0, which takes all that arrives, so that nothing is heard on it: listen on eth0 (interface: eth0)": {
			Name: "iso0", Up: true, Carrier: true, Master: "eth0", MasterKind: "device", HeardOn: "eth0"},
	} {
		if err := i.CanReceive(); err == nil || err.Error() != want || !errors.Is(err, ErrPending) {
			t.Errorf(" got %v\nwant %s", err, want)
		}
	}
	if err := (Interface{Name: "iso0", Up: true, Carrier: true}).CanReceive(); err != nil {
		t.Error(err)
	}
}
