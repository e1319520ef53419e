package configs

import (
	"strings"
	"testing"
)

func TestAFileThatIsMountedByItselfIsKnown(t *testing.T) {
	const table = `536 487 0:59 / / rw,relatime master:166 - overlay overlay rw
551 536 8:1 /srv/one.yaml /etc/topicast/one.yaml ro,relatime - ext4 /dev/sda1 rw
552 536 8:1 /srv/two.yaml//deleted /etc/topicast/two.yaml ro,relatime - ext4 /dev/sda1 rw
553 536 8:1 /srv/folder /etc/with\040blank ro,relatime - ext4 /dev/sda1 rw
`
	for file, want := range map[string]string{
		"/etc/topicast/one.yaml":     "mount its folder",
		"/etc/topicast/two.yaml":     "has been replaced outside",
		"/etc/topicast/three.yaml":   "",
		"/etc/with blank/three.yaml": "",
		"/etc/with blank":            "mount its folder",
	} {
		if got := mountedAlone(strings.NewReader(table), file); got == "" != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
