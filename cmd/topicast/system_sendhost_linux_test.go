package main

import (
	"regexp"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// topicast send reaches a host by the interface named, whatever the routes say, and tells when
// nobody answers for it.
func TestSendToAHost(t *testing.T) {
	s := newSystem(t, "  - { name: x, filter: x, group: '239.1.2.3:5000', interface: iso0 }\n")
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	for _, args := range [][]string{{"route", "add", "192.0.2.0/24", "via", "172.17.0.50", "dev", "iso0"}, {"route", "add", "192.0.2.128/25", "via", "10.0.0.1", "dev", "priv0"}} {
		if out, err := s.GW.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	s.GW.Sysctl("net.ipv4.neigh.iso0.retrans_time_ms", "50")
	send := func(to string) (string, error) {
		t.Helper()
		binary, err := topicastBinary()
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.GW.Command(binary, "send", to, "hello", "--interface", "iso0").CombinedOutput()
		return string(out), err
	}
	for i, tt := range []struct{ to, says string }{
		{"172.17.0.50:5000", `^172\.17\.0\.1:\d+ -> 172\.17\.0\.50:5000 on iso0 \(index \d+\), ttl 64, 5 bytes\n(topicast: warning: 172\.17\.0\.50:5000 does not take what is sent to it: 172\.17\.0\.50 says port unreachable .*\n)$`},
		{"192.0.2.7:5000", ` -> 192\.0\.2\.7:5000 through 172\.17\.0\.50 on iso0 `},
		{"172.17.255.255:5000", ` -> 172\.17\.255\.255:5000 on iso0 `},
	} {
		out, err := send(tt.to)
		if err != nil || !regexp.MustCompile(tt.says).MatchString(out) {
			t.Errorf("to %s: %v, %q", tt.to, err, out)
		}
		if f := iso.WaitFor(i+1, netlab.Frame.UDP)[i]; f.Dst.String() != tt.to || f.Src.Addr().String() != "172.17.0.1" || f.TTL != 64 {
			t.Errorf("to %s: %v", tt.to, f)
		}
	}
	out, err := send("172.17.0.77:5000")
	if err == nil || !strings.Contains(out, "topicast: error: 172.17.0.77 does not answer on the link of iso0: the kernel has dropped what was sent\nhint: is it on, and in that network? ip neigh show dev iso0\n") {
		t.Errorf("to a host that is off: %v, %q", err, out)
	}
	priv.None(netlab.Frame.UDP)
}
