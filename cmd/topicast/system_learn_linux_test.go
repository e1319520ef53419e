package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// topicast learn hears groups that nobody on its host has joined, joins what others report, and
// sends nothing itself: what leaves its host are the kernel's reports.
func TestLearnHearsWhatNobodyHereHasJoinedAndSendsNothing(t *testing.T) {
	rig := netlab.NewRig(t)
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	wire := rig.Dev.Capture("eth0")
	learn := rig.GW.Start(binary, "learn", "--interface", "iso0", "--for", "10m")
	s := &system{Rig: rig, t: t}
	s.eventually("learn listens", func() error {
		if !strings.Contains(learn.Output(), "listening on iso0") {
			return errors.New(learn.Output())
		}
		return nil
	})

	rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")).Say(netip.MustParseAddrPort("239.9.9.9:7000"), []byte("hello"))
	listen := rig.Dev.Start(binary, "listen", "239.7.7.7:7001", "--interface", "eth0")
	reported := func(f netlab.Frame) bool {
		return f.Src.Addr() == netip.MustParseAddr("172.17.0.1") && slices.ContainsFunc(f.IGMP, func(m netlab.Membership) bool {
			return m.Group == netip.MustParseAddr("239.7.7.7") && m.Type == "TO_EX"
		})
	}
	wire.WaitForFrame(reported)
	_ = listen.Stop()
	if err := learn.Stop(); err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{
		"  # unknown, text, to 239.9.9.9:7000: ", " from 172.17.0.50, 5 bytes each, ", "    group: 239.9.9.9:7000\n    interface: iso0\n",
		"# Joined by others, and nothing was heard there:\n#   239.7.7.7 by 172.17.0.50\n",
	} {
		if !strings.Contains(learn.Output(), want) {
			t.Errorf("%q is missing in\n%s", want, learn.Output())
		}
	}
	wire.None(func(f netlab.Frame) bool { return f.UDP() })
}

// Where nothing is heard that is an error, which says what to do.
func TestLearnOfASilentNetworkIsAnError(t *testing.T) {
	rig := netlab.NewRig(t)
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	learn := rig.GW.Start(binary, "learn", "--interface", "iso0", "--for", "10ms")
	if err := learn.Wait(); err == nil {
		t.Error("it ended well")
	}
	if out := learn.Output(); !strings.Contains(out, "topicast: error: nothing was heard on iso0 in 0s\nhint: is it the right interface? ") {
		t.Error(out)
	}
}
