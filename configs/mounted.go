package configs

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// MountedAlone returns what to do about a file that is mounted into a container by
// itself, "" if it is not. Editors put a new file in the place of the old one, and
// the mount stays with the old one: the change is never seen.
func MountedAlone(file string) (hint string) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "" // not Linux
	}
	defer table.Close()
	abs, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	return mountedAlone(table, abs)
}

// mountedAlone reads the table of proc_pid_mountinfo(5): the fourth field is the
// root of the mount within its file system, the fifth is where it is mounted.
func mountedAlone(table io.Reader, file string) (hint string) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || unescape.Replace(fields[4]) != file {
			continue
		}
		hint = "the file itself is mounted here: an edit that puts a new file in its place is not seen; mount its folder"
		if strings.HasSuffix(fields[3], "//deleted") { // as the kernel shows an unlinked one
			hint = "the file that is mounted here has been replaced outside, and the new one is not seen; mount its folder, and start anew"
		}
	}
	return hint
}
