package configs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestYAMLAnchorsAndMergesAreFollowed(t *testing.T) {
	c, err := load("x.yaml", []byte(`
send:
  - &lamp
    filter: a
    group: 239.1.2.3:5000
    interface: eth0
    ttl: 4
  - <<: *lamp
    filter: b
    ttl: 5
  - <<: [{ttl: 6}, *lamp]
    filter: c
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Table.Send() {
		got = append(got, fmt.Sprint(r.Name, " ", r.Group, " ", r.Binding.Interface, " ", r.Binding.TTL))
	}
	want := []string{"a 239.1.2.3:5000 eth0 4", "b 239.1.2.3:5000 eth0 5", "c 239.1.2.3:5000 eth0 6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A fault in a merged key is told where it is written.
func TestYAMLMergedFaultIsAtItsAnchor(t *testing.T) {
	_, err := load("x.yaml", []byte(`send:
  - &lamp
    filter: a
    group: 10.1.2.3:5000
    interface: eth0
  - <<: *lamp
    filter: b
`), nil)
	want := `x.yaml:4:12: send[0].group: group "10.1.2.3:5000": 10.1.2.3 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255
x.yaml:4:12: send[1].group: group "10.1.2.3:5000": 10.1.2.3 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

// Ten levels of ten aliases each would be ten thousand million values.
func TestYAMLAliasesDoNotMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	b.WriteString("send: *a20\n")
	_, err := load("x.yaml", []byte(b.String()), nil)
	if err == nil || !strings.Contains(err.Error(), "send[9]: is a list; it must be a rule") {
		t.Error(err)
	}
}
