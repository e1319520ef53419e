package harness

import (
	"os/exec"
	"syscall"
	"testing"

	"topicast/internal/lab/netlab"
)

func TestWhatNeedsMoreThanItsGroupHasIsKilled(t *testing.T) {
	g, err := NewMemoryGroup(16 << 20)
	if err != nil {
		netlab.Skip(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	for script, killed := range map[string]bool{
		"read x; exec head -c 1000 /dev/zero":             false,
		"read x; x=$(head -c 64M /dev/zero | tr \\\\0 x)": true,
	} {
		c := exec.Command("sh", "-c", script)
		in, err := c.StdinPipe()
		if err == nil {
			err = c.Start()
		}
		if err == nil {
			err = g.Add(c.Process.Pid)
		}
		if err != nil {
			t.Fatal(err)
		}
		in.Write([]byte("go\n"))
		in.Close()
		_ = c.Wait()
		status := c.ProcessState.Sys().(syscall.WaitStatus)
		if got := status.Signaled() && status.Signal() == syscall.SIGKILL; got != killed {
			t.Errorf("%s: %v, killed %v", script, c.ProcessState, killed)
		}
	}
}
