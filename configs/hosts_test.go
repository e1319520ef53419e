package configs

import (
	"slices"
	"strings"
	"testing"
)

func TestHostsAreNamesWithoutSchemeAndPort(t *testing.T) {
	for written, want := range map[string][]string{
		`""`: nil, `topicast.example.com.`: {"topicast.example.com"}, `[a.example, b.example]`: {"a.example", "b.example"},
	} {
		c, err := load("x.yaml", []byte("web: {hosts: "+written+"}\nsend: [{filter: a, group: '239.1.1.1:5000', interface: lo}]\n"), nil)
		if err != nil || !slices.Equal(c.Web.Hosts, want) {
			t.Errorf("%s: %q, %v", written, c.Web.Hosts, err)
		}
	}
	for _, written := range []string{`http://a.example`, `"a.example:80"`, `"*.example"`, `a.example/status`, `[""]`} {
		_, err := load("x.yaml", []byte("web: {hosts: "+written+"}\nsend: [{filter: a, group: '239.1.1.1:5000', interface: lo}]\n"), nil)
		if err == nil || !strings.Contains(err.Error(), "is not the name of a host") {
			t.Errorf("%s: %v", written, err)
		}
	}
}
