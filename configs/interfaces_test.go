package configs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// interfacesOf loads a file whose rules have an interface, as it is written.
func interfacesOf(t *testing.T, written string) (*Config, error) {
	t.Helper()
	return load("topicast.yaml", []byte("send:\n- filter: a\n  group: 239.1.1.1:5000\n  interface: "+written+
		"\nreceive:\n- group: 239.2.1.1:5000\n  interface: "+written+"\n  topic: b\n"), nil)
}

func TestAnInterfaceIsANameOrAList(t *testing.T) {
	for written, want := range map[string]string{
		"eth0":                 "eth0",
		"[eth0]":               "eth0",
		"[eth0, eth1]":         "eth0, eth1",
		`"vlan*"`:              "vlan*",
		`[eth0, "vlan*"]`:      "eth0, vlan*",
		"eth0, eth1":           "eth0, eth1",
		"\n  - eth0\n  - eth1": "eth0, eth1",
	} {
		c, err := interfacesOf(t, written)
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if d := cmp.Diff([]string{want, want}, []string{c.Table.Send()[0].Binding.Interface, c.Table.Receive()[0].Interface}); d != "" {
			t.Errorf("%s: %s", written, d)
		}
	}
	for written, want := range map[string]string{
		"[]":               "send[0].interface: the list is empty",
		`[eth0, ""]`:       `send[0].interface: "" is not the name of one interface`,
		`["eth0, eth1"]`:   `send[0].interface: "eth0, eth1" is not the name of one interface`,
		"[eth0, 7]":        "send[0].interface: 7 is a number; it must be the name of an interface",
		`"eth[0"`:          `send[0].interface: "eth[0" is no pattern`,
		`[eth0, "eth[0"]`:  `send[0].interface[1]: "eth[0" is no pattern`,
		"[eth0, 10.0.0.5]": "send[0].interface[1]: 10.0.0.5 is an address, and not the name of an interface",
		"[eth0, $NAME]":    "send[0].interface: holds $NAME, which nothing replaces",
	} {
		if _, err := interfacesOf(t, written); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", written, err, want)
		}
	}
}

// What is said of a rule is said once, however many interfaces it has on the host.
func TestWarningsOfARuleWithSeveralInterfacesAreSaidOnce(t *testing.T) {
	c, err := load("topicast.yaml", []byte("broker: { client_id: c }\nsend:\n- { filter: topicast/#, group: '239.1.1.1:5000', interface: [eth0, eth1] }\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Warnings.Error()
	if c.On(mapping.HostInterfaces{}); c.Warnings.Error() != before || len(c.Table.Send()) != 2 {
		t.Errorf("%v, and on a host %v", before, c.Warnings)
	}
}
