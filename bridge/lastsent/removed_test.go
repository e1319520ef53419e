package lastsent

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A folder that somebody removes is made again at the next change, with all that is known.
func TestAFolderThatIsRemovedIsMadeAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open cannot be removed there")
	}
	s := opened(t, Options{Dir: filepath.Join(t.TempDir(), "state")})
	e, other := s.of(1), s.of(2)
	s.send(e, on)
	s.written(t, e, on)
	if err := os.RemoveAll(s.options.Dir); err != nil {
		t.Fatal(err)
	}
	s.send(other, off)
	s.written(t, other, off)
	k := s.killed(t, Options{})
	if !k.of(1).Was(on) || !k.of(2).Was(off) {
		t.Error("not all is known")
	}
	if second := opened(t, Options{Dir: s.options.Dir}); second.writer.lock != nil {
		t.Error("the new file is not locked")
	}
}
