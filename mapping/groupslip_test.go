package mapping_test

import (
	"strings"
	"testing"

	"topicast/mapping"
)

func TestGroupsAsTheyAreWrittenElsewhereAreExplained(t *testing.T) {
	const one = "a message goes to one group: "
	for _, c := range []struct{ written, send, receive string }{
		{"225.0.0.0/8", "is a network; " + one, "is a network, and a rule listens to 4096 groups at most; name those that are in use, as in 225.0.0.1-225.0.0.63:5000"},
		{"225.0.0.0/8:6000", "is a network; " + one, "as in 225.0.0.1-225.0.0.63:6000"},
		{"225.0.0.0:6000/8", "is a network; " + one, "as in 225.0.0.1-225.0.0.63:6000"},
		{"239.1.2.0/24:6000", "is a network; " + one, "is a network; write 239.1.2.0-239.1.2.255:6000"},
		{"239.1.2.77/24:6000", "is a network; " + one, "is a network; write 239.1.2.0-239.1.2.255:6000"},
		{"239.1.0.0/20:6000", "is a network; " + one, "is a network; write 239.1.0.0-239.1.15.255:6000"},
		{"239.1.0.0/19:6000", "is a network; " + one, "4096 groups at most; name those that are in use, as in 239.1.0.1-239.1.0.63:6000"},
		{"239.1.2.3/32:6000", "is a network; " + one, "is a network; write 239.1.2.3:6000"},
		{"[ff15::]/120:6000", "is a network; " + one, "is a network; write [ff15::-ff15::ff]:6000"},
		{"[ff15::/120]:6000", "is a network; " + one, "is a network; write [ff15::-ff15::ff]:6000"},
		{"ff15::/16", "is a network; " + one, "as in [ff15::1-ff15::3f]:5000"},
		{"10.0.0.0/8:5000", "10.0.0.0 is not an IPv4 multicast address", "10.0.0.0 is not an IPv4 multicast address"},
		{"239.1.2.3/5000", "has its port after a /; write 239.1.2.3:5000", "has its port after a /; write 239.1.2.3:5000"},
		{"ff15::1/5000", "has its port after a /; write [ff15::1]:5000", "has its port after a /; write [ff15::1]:5000"},
		{"239.1.2.0-255:6000", "is more than one; " + one, "the range is not written whole; write 239.1.2.0-239.1.2.255:6000"},
		{"239.1.2.*:6000", "is more than one; " + one, "the range is not written whole; write the first and the last group"},
		{"239.1.2.1-239.1.2.9:6000", "is a range; " + one, ""},
		{"239.1.2.3:6000-6009", "has a range of ports, and a group has one", "has a range of ports, and a group has one"},
		{"239.1.2.3:6000,239.1.2.4:6000", "holds more than one; make a rule of each", "holds more than one; write each by itself"},
		{"udp://@239.1.2.3:6000", "is a URL; write 239.1.2.3:6000, without udp://", "is a URL; write 239.1.2.3:6000, without udp://"},
		{"udp://239.1.2.3:6000/", "is a URL; write 239.1.2.3:6000, without udp://", "is a URL; write 239.1.2.3:6000, without udp://"},
		{"“239.1.2.3:6000”", "its quotes are not those", "its quotes are not those"},
		{"239.1.2.3", "has no port", "has no port"},
		{"239.1.2.{id/4}:{5000-1}", "", "holds no {…}"},
	} {
		_, err := mapping.ParseGroup(c.written)
		tells(t, "send", c.written, err, c.send)
		_, err = mapping.ParseGroupRange(c.written)
		tells(t, "receive", c.written, err, c.receive)
	}
}

func tells(t *testing.T, where, written string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %s: %v", where, written, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %s: %v, want %q", where, written, err, want)
	}
}
