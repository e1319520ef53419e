package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

// What tcpdump has captured of real multicast, by an interface and by any, leaves again as it was:
// the same bytes to the same groups in the same order, in fragments where it was, from the
// source that was chosen, and nothing of it by another interface.
func TestReplaySendsWhatTcpdumpCaptured(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		netlab.Skip(t, "tcpdump is not there")
	}
	rig := netlab.NewRig(t)
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{"iso0": filepath.Join(dir, "iso0.pcap"), "any": filepath.Join(dir, "any.pcap")}
	var dumps []*netlab.Process
	for dev, file := range files {
		// -Z root: or it drops to a user who cannot write here.
		dumps = append(dumps, rig.GW.Start("tcpdump", "--immediate-mode", "-Z", "root", "-B", "16384", "-s", "2000", "-U", "-n", "-i", dev, "-w", file, "src 172.17.0.50 or src fd17::50"))
	}
	for _, p := range dumps {
		await := time.Now().Add(patience)
		for !strings.Contains(p.Output(), "listening on") {
			if time.Now().After(await) {
				t.Fatalf("tcpdump: %s", p.Output())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}

	random := rand.NewChaCha8([32]byte{7})
	sizes := []int{0, 1, 9, 100, 1472, 1473, 4000, 9000, 60000}
	var want []string
	arrived := rig.GW.Capture("iso0")
	four, six := rig.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.50")), rig.Dev.Talker("eth0", netip.MustParseAddr("fd17::50"))
	for i := range 60 {
		payload := make([]byte, sizes[i%len(sizes)])
		random.Read(payload)
		to, k := fmt.Sprintf("239.1.2.%d:%d", 1+i%3, 5000+i%2), four
		if i%5 == 4 {
			to, k = "[ff15::7]:5000", six
		}
		k.Say(netip.MustParseAddrPort(to), payload)
		want = append(want, fmt.Sprintf("%s %x", to, payload))
	}
	arrived.WaitFor(len(want), nil)
	four.Say(netip.MustParseAddrPort("172.17.0.1:9"), []byte("for a host"))
	for _, file := range files {
		end := time.Now().Add(patience)
		for b := []byte(nil); !bytes.Contains(b, []byte("for a host")); time.Sleep(10 * time.Millisecond) {
			if b, err = os.ReadFile(file); err != nil || time.Now().After(end) {
				t.Fatalf("%s has only %d bytes, %v", file, len(b), err)
			}
		}
	}
	for _, p := range dumps {
		_ = p.Stop()
	}

	for dev, file := range files {
		priv, iso := rig.Lan.Capture("eth0"), rig.Dev.Capture("eth0")
		c := rig.GW.Command(binary, "replay", file, "--interface", "priv0", "--speed", "0")
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "60 datagrams sent to 7 groups in ") || !strings.Contains(string(out), "1 to single hosts or broadcast addresses") {
			t.Errorf("%s: %v, %s", dev, err, out)
		}
		for i, f := range priv.WaitFor(len(want), nil) {
			source := "10.0.0.2"
			if f.Dst.Addr().Is6() {
				source = "fd10::2"
			}
			if got := fmt.Sprintf("%s %x", f.Dst, f.Payload); got != want[i] || f.Src.Addr().String() != source || f.TTL != 1 || f.Fragments == 1 && !f.ToGroup() {
				t.Errorf("%s: datagram %d is %.80s from %s, want %.80s", dev, i, got, f.Src, want[i])
			}
		}
		iso.None(netlab.Frame.UDP)
	}
}
