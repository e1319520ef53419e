package lastsent

import (
	"os"
	"strings"
)

// bootID names the run of the system, so that what was written and not synced is
// known to be there still.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
